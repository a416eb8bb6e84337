/**
 * A request as the endpoints read it: under the draft's prefix, its headers looked up once, its body as JSON whatever its
 * type says, and read whole, at once, as UTF-8. A body that is too large, incomplete or not UTF-8 fails with an error of the
 * protocol, as a defect, since no endpoint can handle it.
 *
 * Source: "API Standards" of the draft and of the client-server specification.
 */
import type { IncomingMessage } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { canonicalUrl } from "@greenroom/protocol/api/ClientApi"
import { canonicalClientServerUrl } from "@greenroom/protocol/client-server/CanonicalPath"
import { shapeProblem } from "@greenroom/protocol/JsonShape"
import { NotJson } from "@greenroom/protocol/MatrixError"
import { Effect, Inspectable } from "effect"
import { Headers, HttpIncomingMessage, HttpMethod, HttpServerRequest } from "effect/http"
import { receiveBody } from "./RequestBody.ts"

/** The longest body of a request, in bytes. Uploads have a limit of their own. */
export const maxBodyBytes = 1024 * 1024

/**
 * Parsing JSON takes time of the event loop: the limits are lower where less is needed, above all for unauthenticated
 * callers.
 */
const maxAnonymousBytes = 64 * 1024
const anonymousPath = /^\/(?:matrix\/client\/api\/v1|_matrix\/client\/v[13])\/(?:login|register|account)(?:[/?]|$)/
/** An event has 64 KiB at most, each byte of which may be written as `\u0000`. */
const maxEventBytes = 6 * 64 * 1024
const eventPath = /^\/(?:matrix\/client\/api\/v1|_matrix\/client\/v3)\/rooms\/[^/]+\/(?:send|state)\//

const limitOf = (url: string): number =>
  anonymousPath.test(url) ? maxAnonymousBytes : eventPath.test(url) ? maxEventBytes : maxBodyBytes

type Inner = HttpServerRequest.HttpServerRequest

const utf8 = new TextDecoder("utf-8", { fatal: true })

/**
 * The text of a body, which is JSON or empty. Bytes that are not UTF-8 are refused: with U+FFFD in their place, the stored text
 * would differ from the sent one.
 */
const decode = (bytes: Uint8Array | ArrayBuffer): Effect.Effect<string> => {
  try {
    const text = utf8.decode(bytes)
    const problem = shapeProblem(text)
    return problem === undefined ? Effect.succeed(text) : Effect.die(problem)
  } catch {
    return Effect.die(new NotJson({ error: "The body is not UTF-8" }))
  }
}

const noBytes = new Uint8Array()

/** Reads a body to its end, without waiting where it has arrived whole. */
const readAll = (source: IncomingMessage, limit: number, afterWait: Effect.Effect<void>): Effect.Effect<string> =>
  source.complete && source.readableFlowing === null && source.readableLength <= limit
    ? decode((source.read() as Buffer | null) ?? noBytes)
    : receiveBody(source, limit).pipe(
        Effect.orDie,
        Effect.flatMap(decode),
        Effect.tap(() => afterWait)
      )

/** A request of Effect's HTTP server whose body is bounded, and read as JSON. */
export class MatrixRequest extends Inspectable.Class implements HttpServerRequest.HttpServerRequest {
  readonly [HttpServerRequest.TypeId]: typeof HttpServerRequest.TypeId = HttpServerRequest.TypeId
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly url: string
  readonly method: string
  readonly headers: Headers.Headers
  private readonly inner: Inner
  private body: string | undefined
  /** Runs when a body has arrived that had to be waited for. */
  afterWait: Effect.Effect<void> = Effect.void

  constructor(inner: Inner) {
    super()
    this.inner = inner
    this.url = canonicalClientServerUrl(canonicalUrl(inner.url))
    this.method = inner.method
    const { headers } = inner
    const isJson = headers["content-type"] === undefined || headers["content-type"] === "application/json"
    this.headers =
      isJson || !HttpMethod.hasBody(inner.method) ? headers : Headers.set(headers, "content-type", "application/json")
  }

  get text(): Effect.Effect<string> {
    if (this.body !== undefined) return Effect.succeed(this.body)
    const { source } = this.inner
    return Effect.map(readAll(source as IncomingMessage, limitOf(this.url), this.afterWait), (body) => {
      this.body = body
      return body
    })
  }

  get source() {
    return this.inner.source
  }
  /** The property from which `NodeHttpServerRequest.toServerResponse` reads it. */
  get response() {
    return NodeHttpServerRequest.toServerResponse(this.inner)
  }
  get originalUrl() {
    return this.inner.originalUrl
  }
  get cookies() {
    return this.inner.cookies
  }
  get remoteAddress() {
    return this.inner.remoteAddress
  }
  get peerAddress() {
    return this.inner.peerAddress
  }
  get protocol() {
    return this.inner.protocol
  }
  get json() {
    return this.inner.json
  }
  get urlParamsBody() {
    return this.inner.urlParamsBody
  }
  get arrayBuffer() {
    return this.inner.arrayBuffer
  }
  get stream() {
    return this.inner.stream
  }
  get multipart() {
    return this.inner.multipart
  }
  get multipartStream() {
    return this.inner.multipartStream
  }
  get upgrade() {
    return this.inner.upgrade
  }
  get upgradeWith() {
    return this.inner.upgradeWith
  }

  modify(options: Parameters<Inner["modify"]>[0]): MatrixRequest {
    return new MatrixRequest(this.inner.modify(options))
  }

  toJSON(): unknown {
    return { _id: "MatrixRequest", method: this.method, url: this.url }
  }
}
