/**
 * Previews of web pages: title, description and image as a page describes itself, for users whose clients ask.
 *
 * The server makes the request in place of the user, so it is bounded in every way: public addresses only, wherever a name
 * or a redirect leads; a part of the page, an image of some size, in some seconds; few at a time, and each page once an hour.
 * The image is kept as other content that can be fetched again.
 *
 * Source: "Content Repository" of the client-server specification, `preview_url`.
 */
import { randomBytes } from "node:crypto"
import type { IncomingMessage } from "node:http"
import type { JsonObject } from "@greenroom/protocol/Json"
import { InvalidParam, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { MediaStore } from "@greenroom/store/MediaStore"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Context, Effect, Exit, Layer } from "effect"
import { ByteCollector } from "../runtime/ByteCollector.ts"
import { Departure } from "../runtime/Departure.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { imageSizeOfFile } from "./internal/imageSize.ts"
import { fetchUrl } from "./internal/OutgoingFetch.ts"
import { type Description, describePage } from "./internal/pageDescription.ts"
import { receive } from "./internal/Receive.ts"
import { mxc } from "./Media.ts"
import { MediaConfig } from "./MediaConfig.ts"
import { MediaFiles } from "./MediaFiles.ts"
import { detectType, isShownImage } from "./MediaType.ts"

/** As much of a page as is read, and the largest image, in bytes. */
const maxPageBytes = 1024 * 1024
const maxImageBytes = 10 * 1024 * 1024

/** How long all of a preview may take. */
const timeout = "25 seconds"

/** The lifetimes of cached previews and failures, and the most that are cached. */
const previewLifetime = "1 hour"
const failureLifetime = "1 minute"
const capacity = 1_000

/** How many previews are made at a time. */
const maxAtOnce = 16

const maxUrlLength = 4_096

const headers = {
  "user-agent": "Greenroom (Matrix home server; previews of URLs)",
  accept: "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.1"
}

const notFound = new NotFound({ error: "There is no preview of this URL" })
const off = new NotFound({ error: "This server makes no previews of URLs" })
const busy = new LimitExceeded({ error: "Too many previews are being made, try again later", retry_after_ms: 5_000 })

/** The beginning of an answer. */
const readSome = async (response: IncomingMessage): Promise<Buffer> => {
  const bytes = new ByteCollector()
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes.add(chunk)
    if (bytes.length >= maxPageBytes) break
  }
  return bytes.take().subarray(0, maxPageBytes)
}

const isPage = (type: string): boolean => /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(type)

/** Previews of web pages. */
export class UrlPreviews extends Context.Service<
  UrlPreviews,
  {
    /** The description of a page, by the names of Open Graph. Callers: every user. Errors: M_INVALID_PARAM, M_NOT_FOUND. */
    readonly preview: (session: Session, url: string) => Effect.Effect<JsonObject, MatrixError>
  }
>()("greenroom/actors/UrlPreviews") {
  static readonly layer = Layer.effect(
    UrlPreviews,
    Effect.gen(function* () {
      const { serverName } = yield* HomeServerConfig
      const { previewAddresses: policy = "public", urlPreviews = true } = yield* MediaConfig
      const files = yield* MediaFiles
      const store = yield* MediaStore
      const { whileStaying } = yield* Departure
      let running = 0

      /** Stores the image of a preview; returns the preview's fields about it. */
      const keepImage = Effect.fnUntraced(function* (response: IncomingMessage) {
        const received = yield* receive(yield* files.incoming, response, maxImageBytes)
        const type = yield* detectType(received.head)
        if (type === undefined || !isShownImage(type)) return {}
        const name = { origin: serverName, mediaId: randomBytes(18).toString("base64url") }
        const pixels = yield* Effect.promise(() => imageSizeOfFile(type, received.path))
        yield* store.touch(received.sha256, received.size)
        yield* files.put(received)
        const { sha256, size } = received
        yield* store.putRemote(
          name,
          { sha256, size, contentType: type, detectedType: type, fileName: undefined },
          false
        )
        return {
          "og:image": mxc(name),
          "og:image:type": type,
          ...(pixels === undefined ? {} : { "og:image:width": pixels.width, "og:image:height": pixels.height }),
          "matrix:image:size": size
        }
      })

      /** A page is shown without its image if that cannot be fetched. */
      const imageOf = (image: string | undefined, base: URL) =>
        image === undefined
          ? Effect.succeed({})
          : Effect.scoped(
              Effect.flatMap(fetchUrl(image, { policy, headers }, base), ({ response }) =>
                response.statusCode === 200 ? keepImage(response) : Effect.succeed({})
              )
            ).pipe(Effect.orElseSucceed(() => ({})))

      const fetchPreview = Effect.fnUntraced(function* (url: string) {
        const fetched = yield* fetchUrl(url, { policy, headers })
        const { response } = fetched
        const type = response.headers["content-type"] ?? ""
        if (response.statusCode !== 200) return yield* notFound
        if (/^image\//i.test(type)) return yield* Effect.mapError(keepImage(response), (): MatrixError => notFound)
        if (!isPage(type)) return yield* notFound
        const bytes = yield* Effect.tryPromise({ try: () => readSome(response), catch: () => notFound })
        const { image, ...page }: Description = yield* Effect.promise(() => describePage(bytes, type))
        return { ...page, ...(yield* imageOf(image, fetched.url)) }
      }, Effect.scoped)

      const make = (url: string): Effect.Effect<JsonObject, MatrixError> =>
        Effect.suspend(() => {
          if (running >= maxAtOnce) return Effect.fail(busy)
          running++
          return fetchPreview(url).pipe(
            Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(notFound) }),
            whileStaying,
            Effect.catchTag("FetchFailed", () => Effect.fail(notFound)),
            Effect.ensuring(Effect.sync(() => running--))
          )
        })

      const cache = yield* MonotonicCache.makeWith(make, {
        capacity,
        timeToLive: (exit) => (Exit.isSuccess(exit) ? previewLifetime : failureLifetime)
      })

      const preview = Effect.fn("UrlPreviews.preview")(function* (_session: Session, url: string) {
        if (!urlPreviews) return yield* off
        const parsed = url.length > maxUrlLength ? null : URL.parse(url)
        if (parsed === null || !["http:", "https:"].includes(parsed.protocol)) {
          return yield* new InvalidParam({ error: "url: expected a URL of http or https" })
        }
        parsed.hash = ""
        return yield* MonotonicCache.get(cache, parsed.href)
      })

      return UrlPreviews.of({ preview })
    })
  )
}
