/**
 * A request as the endpoints read it: under the draft's prefix, its headers looked up once, its body as JSON whatever its
 * type says, and read whole, at once, as UTF-8. A body that is too large, incomplete or not UTF-8 fails with an error of the
 * protocol, as a defect, since no endpoint can handle it.
 *
 * Source: "API Standards" of the specification.
 */
import type { IncomingMessage } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { canonicalUrl } from "@greenroom/protocol/api/ClientApi"
import { canonicalClientServerUrl } from "@greenroom/protocol/client-server/CanonicalPath"
import { shapeProblem } from "@greenroom/protocol/JsonShape"
import { BadRequest, type MatrixError, NotJson, TooLarge } from "@greenroom/protocol/MatrixError"
import { Effect, Inspectable } from "effect"
import { Headers, HttpIncomingMessage, HttpMethod, HttpServerRequest } from "effect/http"

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

const tooLarge = (limit: number) => new TooLarge({ error: `The body is larger than ${limit} bytes` })
const brokenOff = new BadRequest({ error: "The body could not be read" })

const noBytes = new Uint8Array()

/** Reads a body to its end, without waiting where it has arrived whole. */
const readAll = (source: IncomingMessage, limit: number, afterWait: Effect.Effect<void>): Effect.Effect<string> =>
  source.complete && source.readableFlowing === null && source.readableLength <= limit
    ? decode((source.read() as Buffer | null) ?? noBytes)
    : Effect.tap(awaitAll(source, limit), () => afterWait)

/** The server drains the rest of a body that is too large. */
const awaitAll = (source: IncomingMessage, limit: number): Effect.Effect<string> =>
  Effect.callback<string>((resume) => {
    const chunks: Array<Buffer> = []
    let size = 0
    const finish = (result: Effect.Effect<string>) => {
      stop()
      resume(result)
    }
    const refuse = (error: MatrixError) => {
      source.pause()
      finish(Effect.die(error))
    }
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size > limit) refuse(tooLarge(limit))
      else chunks.push(chunk)
    }
    const onEnd = () => finish(decode(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
    const onClose = () => refuse(brokenOff)
    const stop = () => {
      source.off("data", onData)
      source.off("end", onEnd)
      source.off("error", onClose)
      source.off("close", onClose)
    }
    source.on("data", onData)
    source.on("end", onEnd)
    source.on("error", onClose)
    source.on("close", onClose)
    return Effect.sync(stop)
  })

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
