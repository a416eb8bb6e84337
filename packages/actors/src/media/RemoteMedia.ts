/**
 * Files of other home servers: requested by the signed endpoint for servers, and by the former unauthenticated endpoint if a
 * server does not know the first.
 *
 * Source: "Content Repository" of the server-server specification.
 */
import type { IncomingMessage } from "node:http"
import { Readable } from "node:stream"
import { isJsonObject, parseJsonText } from "@greenroom/protocol/Json"
import { type MatrixError, NotFound, NotYetUploaded, TooLarge } from "@greenroom/protocol/MatrixError"
import type { MediaName } from "@greenroom/store/MediaStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Context, Effect, Layer, type Scope } from "effect"
import { Destinations } from "../federation/Destinations.ts"
import { addressPolicyOf, FederationConfig } from "../federation/FederationConfig.ts"
import { defaultRequestTimeout, FederationTransport } from "../federation/FederationTransport.ts"
import { authorizationOf } from "../federation/RequestSigning.ts"
import { ByteCollector } from "../runtime/ByteCollector.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { fileNameOf } from "./FileName.ts"
import { boundaryOf, readFilePart } from "./internal/Multipart.ts"
import { fetchUrl } from "./internal/OutgoingFetch.ts"

/** A file that arrives. */
export interface RemoteFile {
  readonly body: Readable
  readonly contentType: string | undefined
  readonly fileName: string | undefined
}

/** The largest error that is read, in bytes. */
const maxErrorBytes = 64 * 1024

/** The other server does not give what it should. */
export const unavailable = (name: MediaName) => new NotFound({ error: `${name.origin} does not serve the content now` })

/** Whether a server does not know the endpoint, by its answer. */
const isUnknownEndpoint = (status: number, errcode: string): boolean =>
  errcode === "M_UNRECOGNIZED" || (errcode === "" && [400, 404, 405, 501].includes(status))

const toMatrixError = (name: MediaName, status: number, errcode: string): MatrixError => {
  if (errcode === "M_NOT_YET_UPLOADED") return new NotYetUploaded({ error: "The content has not been uploaded yet" })
  if (errcode === "M_TOO_LARGE") return new TooLarge({ error: `${name.origin} refuses the content as too large` })
  return status === 404 ? new NotFound({ error: "There is no such content" }) : unavailable(name)
}

/** The errcode of an error; empty if it has none. */
const readErrcode = async (response: IncomingMessage): Promise<string> => {
  const bytes = new ByteCollector()
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes.add(chunk)
    if (bytes.length > maxErrorBytes) return ""
  }
  const error = parseJsonText(bytes.take().toString())
  return isJsonObject(error) && typeof error.errcode === "string" ? error.errcode : ""
}

/** Fetches files of other home servers. */
export class RemoteMedia extends Context.Service<
  RemoteMedia,
  {
    /**
     * A file of another server, whose stream ends with the scope. `timeout` is how long that server may wait for an upload,
     * in ms. Errors: M_NOT_FOUND, also if the server cannot be asked; M_NOT_YET_UPLOADED; M_TOO_LARGE.
     */
    readonly fetch: (name: MediaName, timeout: number) => Effect.Effect<RemoteFile, MatrixError, Scope.Scope>
  }
>()("greenroom/actors/RemoteMedia") {
  static readonly layer = Layer.effect(
    RemoteMedia,
    Effect.gen(function* () {
      const { serverName: origin } = yield* HomeServerConfig
      const federation = yield* FederationConfig
      const policy = addressPolicyOf(federation)
      /** How long another server may take to begin its answer, and the file in it, beside the time that it waits for an upload, in ms. */
      const answerTimeout = federation.requestTimeout ?? defaultRequestTimeout
      const transport = yield* FederationTransport
      const destinations = yield* Destinations
      const signingKeys = yield* SigningKeys

      /** The head of an answer of another server. */
      const ask = Effect.fnUntraced(function* (name: MediaName, uri: string, isSigned: boolean, timeout: number) {
        const destination = name.origin
        const authorization = isSigned
          ? yield* authorizationOf({ method: "GET", uri, origin, destination }, undefined, yield* signingKeys.current)
          : undefined
        return yield* transport
          .open({
            destination,
            method: "GET",
            uri,
            headers: authorization === undefined ? {} : { authorization },
            timeout: timeout + answerTimeout,
            isFile: true
          })
          .pipe(
            Effect.tap(() => destinations.succeeded(destination)),
            Effect.tapError(destinations.failed),
            Effect.mapError(() => unavailable(name))
          )
      })

      const fromUrl = Effect.fnUntraced(function* (name: MediaName, url: string) {
        const { response } = yield* Effect.mapError(fetchUrl(url, { policy, httpsOnly: policy === "public" }), () =>
          unavailable(name)
        )
        if (response.statusCode !== 200) return yield* unavailable(name)
        return fromResponse(response)
      })

      const fromOldEndpoint = Effect.fnUntraced(function* (name: MediaName, timeout: number) {
        const path = `${encodeURIComponent(name.origin)}/${encodeURIComponent(name.mediaId)}`
        const query = `?allow_remote=false&allow_redirect=true&timeout_ms=${timeout}`
        const response = yield* ask(name, `/_matrix/media/v3/download/${path}${query}`, false, timeout)
        const { location } = response.headers
        const status = response.statusCode ?? 0
        if ((status === 307 || status === 308) && location !== undefined) return yield* fromUrl(name, location)
        if (status === 200) return fromResponse(response)
        return yield* toMatrixError(name, status, yield* errcodeOf(response))
      })

      const begin = Effect.fnUntraced(function* (name: MediaName, timeout: number) {
        yield* Effect.mapError(destinations.check(name.origin), () => unavailable(name))
        const uri = `/_matrix/federation/v1/media/download/${encodeURIComponent(name.mediaId)}?timeout_ms=${timeout}`
        const response = yield* ask(name, uri, true, timeout)
        const status = response.statusCode ?? 0
        const boundary = boundaryOf(response.headers["content-type"])
        if (status === 200 && boundary !== undefined) {
          const { body, headers } = yield* Effect.tryPromise({
            try: () => readFilePart(response as AsyncIterable<Buffer>, boundary),
            catch: () => unavailable(name)
          })
          const location = headers.get("location")
          if (location !== undefined) return yield* fromUrl(name, location)
          return {
            body: Readable.from(body, { objectMode: false }),
            contentType: headers.get("content-type"),
            fileName: fileNameOf(headers.get("content-disposition"))
          }
        }
        const errcode = status === 200 ? "" : yield* errcodeOf(response)
        if (status !== 200 && isUnknownEndpoint(status, errcode)) return yield* fromOldEndpoint(name, timeout)
        return yield* toMatrixError(name, status, errcode)
      })

      const fetch = Effect.fn("RemoteMedia.fetch")((name: MediaName, timeout: number) =>
        Effect.timeoutOrElse(begin(name, timeout), {
          duration: timeout + 2 * answerTimeout,
          orElse: () => Effect.fail(unavailable(name))
        })
      )

      return RemoteMedia.of({ fetch })
    })
  )
}

const errcodeOf = (response: IncomingMessage): Effect.Effect<string> =>
  Effect.orElseSucceed(
    Effect.tryPromise(() => readErrcode(response)),
    () => ""
  )

const fromResponse = (response: IncomingMessage): RemoteFile => ({
  body: response,
  contentType: response.headers["content-type"],
  fileName: fileNameOf(response.headers["content-disposition"])
})
