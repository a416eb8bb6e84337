/**
 * Previews of web pages: title, description and image as a page describes itself, for users whose clients ask.
 *
 * The server makes the request in place of the user, so it is bounded in every way: public addresses only, wherever a name
 * or a redirect leads; a part of the page, an image of some size, in some seconds; few at a time, of each user in turn, and each page
 * once an hour. The image is kept as other content that can be fetched again.
 *
 * Source: "Content Repository" of the client-server specification, `preview_url`.
 */
import { randomBytes } from "node:crypto"
import type { IncomingMessage } from "node:http"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { InvalidParam, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { MediaStore } from "@greenroom/store/MediaStore"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Context, Effect, Exit, Layer, PartitionedSemaphore } from "effect"
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

/** How long a page may take, and then its image. */
const pageTimeout = "15 seconds"
const imageTimeout = "10 seconds"

/** The lifetimes of cached previews and failures, and the most that are cached. */
const previewLifetime = "1 hour"
const failureLifetime = "1 minute"
const capacity = 1_000

/** How many previews are made at a time, and how long a request waits for one. */
const maxAtOnce = 16
const longestWait = "1 minute"

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

/** Whether the answer is a web page, without compression as it was asked for. */
const isPage = ({ headers }: IncomingMessage): boolean =>
  /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(headers["content-type"] ?? "") &&
  /^(?:identity)?$/i.test(headers["content-encoding"] ?? "")

/** Previews of web pages. */
export class UrlPreviews extends Context.Service<
  UrlPreviews,
  {
    /**
     * The description of a page, by the names of Open Graph. Callers: every user. Errors: M_INVALID_PARAM, M_NOT_FOUND,
     * M_LIMIT_EXCEEDED.
     */
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
      const places = yield* PartitionedSemaphore.make<UserId>({ permits: maxAtOnce })

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

      /** A page is shown without its image if that cannot be fetched in time. */
      const imageOf = (image: string | undefined, base: URL) =>
        image === undefined
          ? Effect.succeed({})
          : Effect.scoped(
              Effect.flatMap(fetchUrl(image, { policy, headers }, base), ({ response }) =>
                response.statusCode === 200 ? keepImage(response) : Effect.succeed({})
              )
            ).pipe(
              Effect.timeout(imageTimeout),
              Effect.orElseSucceed(() => ({}))
            )

      /** The fields of a page, and its image as the page names it; or those of an image. */
      const read = Effect.fnUntraced(function* (text: string) {
        const { response, url } = yield* fetchUrl(text, { policy, headers })
        const type = response.headers["content-type"] ?? ""
        if (response.statusCode !== 200) return yield* notFound
        if (/^image\//i.test(type)) {
          return { url, image: undefined, fields: yield* Effect.mapError(keepImage(response), () => notFound) }
        }
        if (!isPage(response)) return yield* notFound
        const bytes = yield* Effect.tryPromise({ try: () => readSome(response), catch: () => notFound })
        const { image, ...fields }: Description = yield* Effect.promise(() => describePage(bytes, type))
        return { url, image, fields }
      }, Effect.scoped)

      const make = (text: string): Effect.Effect<JsonObject, MatrixError> =>
        Effect.gen(function* () {
          const { fields, image, url } = yield* read(text).pipe(
            Effect.timeoutOrElse({ duration: pageTimeout, orElse: () => Effect.fail(notFound) }),
            Effect.catchTag("FetchFailed", () => Effect.fail(notFound))
          )
          return { ...fields, ...(yield* imageOf(image, url)) }
        }).pipe(whileStaying)

      const cache = yield* MonotonicCache.makeWith(make, {
        capacity,
        timeToLive: (exit) => (Exit.isSuccess(exit) ? previewLifetime : failureLifetime)
      })

      /** What is cached is answered at once. Users whose pages are slow do not keep others waiting. */
      const find = Effect.fnUntraced(function* ({ userId }: Session, url: string) {
        const found = MonotonicCache.get(cache, url)
        if (yield* MonotonicCache.has(cache, url)) return yield* found
        return yield* Effect.timeoutOrElse(places.withPermit(userId)(found), {
          duration: longestWait,
          orElse: () => Effect.fail(busy)
        })
      })

      const preview = Effect.fn("UrlPreviews.preview")(function* (session: Session, url: string) {
        if (!urlPreviews) return yield* off
        const parsed = url.length > maxUrlLength ? null : URL.parse(url)
        if (parsed === null || !["http:", "https:"].includes(parsed.protocol)) {
          return yield* new InvalidParam({ error: "url: expected a URL of http or https" })
        }
        parsed.hash = ""
        return yield* find(session, parsed.href)
      })

      return UrlPreviews.of({ preview })
    })
  )
}
