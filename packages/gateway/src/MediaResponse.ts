/**
 * Files as HTTP answers: whole or a range of them, with headers by which nothing in a file runs in a browser.
 *
 * Source: "Security considerations" of "Content repository" of the client-server specification; RFC 9110, 13 and 14.
 */
import { randomBytes } from "node:crypto"
import type { ServerResponse } from "node:http"
import { Readable } from "node:stream"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { contentDisposition, safeFileName } from "@greenroom/actors/media/FileName"
import { freeBuffer } from "@greenroom/actors/media/FreeBuffer"
import type { MediaFile } from "@greenroom/actors/media/Media"
import type { ByteRange } from "@greenroom/actors/media/MediaFiles"
import type { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"

/** No part of a file runs, loads other content, or is taken for another type. */
const safety = {
  "content-security-policy":
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; " +
    "media-src 'self'; object-src 'self'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "cross-origin",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-robots-tag": "noindex, nofollow, noarchive, noimageindex"
}

/** Content does not change under its name. */
const cacheControl = "private, max-age=86400, immutable"

/** A connection over which nothing travels for so long is closed, in ms. */
const idleTimeout = 60_000

const etagOf = (file: MediaFile): string => `"${Buffer.from(file.sha256).toString("base64url")}"`

const matches = (header: string | undefined, etag: string): boolean =>
  header?.split(",").some((part) => {
    const candidate = part.trim().replace(/^W\//, "")
    return candidate === etag || candidate === "*"
  }) ?? false

/** One range of bytes; several are answered with the whole file. */
const rangePattern = /^bytes=\s*(?:([0-9]{1,30})-([0-9]{0,30})|-([0-9]{1,30}))\s*$/

/** The range that is asked for: undefined for the whole file, "unsatisfiable" where the file has no byte of it. */
const rangeOf = (header: string | undefined, size: number): ByteRange | "unsatisfiable" | undefined => {
  const found = rangePattern.exec(header ?? "")
  if (found === null) return undefined
  const [, first, last, suffix] = found
  const start = first === undefined ? Math.max(0, size - Number(suffix)) : Number(first)
  const end = first === undefined || last === "" ? size - 1 : Math.min(Number(last), size - 1)
  if (first !== undefined && last !== "" && Number(last) < start) return undefined
  return start >= size || suffix === "0" ? "unsatisfiable" : { start, end }
}

/**
 * Frees each chunk of the file once the connection has taken it. A chunk whose write fails may still be read by the system: it is
 * left to the garbage collection.
 */
const freeWritten = (response: ServerResponse): void => {
  const write = response.write.bind(response) as (chunk: Buffer, done: (error?: Error | null) => void) => boolean
  response.write = (chunk: Buffer) =>
    write(chunk, (error) => {
      if (error == null) freeBuffer(chunk)
    })
}

/** Closes the file with the connection, also when the connection stalls. */
const guard = (response: ServerResponse, destroy: () => void): void => {
  freeWritten(response)
  response.setMaxListeners(20).once("close", destroy)
  response.setTimeout(idleTimeout, () => response.destroy())
}

/** The answer with a file, or with a range of it. `fileName` replaces the name that it was uploaded with. */
export const mediaResponse = Effect.fnUntraced(function* (
  request: HttpServerRequest.HttpServerRequest,
  file: MediaFile,
  fileName: string | undefined = file.fileName
): Effect.fn.Return<HttpServerResponse.HttpServerResponse, NotFound> {
  const { contentType, inline, size } = file
  const etag = etagOf(file)
  const headers = { ...safety, etag, "cache-control": cacheControl, "accept-ranges": "bytes" }
  if (matches(request.headers["if-none-match"], etag)) return HttpServerResponse.empty({ status: 304, headers })
  const ifRange = request.headers["if-range"]
  const range = ifRange === undefined || ifRange === etag ? rangeOf(request.headers.range, size) : undefined
  if (range === "unsatisfiable") {
    return HttpServerResponse.empty({ status: 416, headers: { ...headers, "content-range": `bytes */${size}` } })
  }
  const { end, start } = range ?? { start: 0, end: size - 1 }
  const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  const body = size === 0 ? new Uint8Array() : yield* file.read(range)
  if ("destroy" in body) guard(response, () => body.destroy())
  return HttpServerResponse.raw(body, {
    status: range === undefined ? 200 : 206,
    headers: {
      ...headers,
      "content-type": contentType,
      "content-length": `${end - start + 1}`,
      "content-disposition": contentDisposition(inline, safeFileName(fileName)),
      ...(range === undefined ? {} : { "content-range": `bytes ${start}-${end}/${size}` })
    }
  })
})

/** The answer to another home server: `multipart/mixed` of no metadata and the file. */
export const multipartResponse = Effect.fnUntraced(function* (
  request: HttpServerRequest.HttpServerRequest,
  file: MediaFile
): Effect.fn.Return<HttpServerResponse.HttpServerResponse, NotFound> {
  const boundary = randomBytes(24).toString("hex")
  const head = Buffer.from(
    `--${boundary}\r\ncontent-type: application/json\r\n\r\n{}\r\n--${boundary}\r\n` +
      `content-type: ${file.contentType}\r\n` +
      `content-disposition: ${contentDisposition(file.inline, safeFileName(file.fileName))}\r\n\r\n`
  )
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  const content = yield* file.read()
  const body = Readable.from(
    (async function* () {
      yield head
      yield* content
      yield tail
    })(),
    { objectMode: false }
  )
  guard(NodeHttpServerRequest.toServerResponse(request) as ServerResponse, () => {
    body.destroy()
    content.destroy()
  })
  return HttpServerResponse.raw(body, {
    headers: {
      "content-type": `multipart/mixed; boundary=${boundary}`,
      "content-length": `${head.length + file.size + tail.length}`
    }
  })
})
