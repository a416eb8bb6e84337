/**
 * Gateways with a directory for media, and uploads and downloads, for tests.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import type { HomeServerOptions } from "@greenroom/actors/HomeServer"
import type { MediaOptions } from "@greenroom/actors/media/MediaConfig"
import { Effect, Layer } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { type Body, gatewayWith, type TestUser } from "../TestGateway.ts"

/** A gateway with media options, and its directory of files. */
export const mediaGateway = (media: MediaOptions = {}, home: Partial<HomeServerOptions> = {}) => {
  const directory = mkdtempSync(path.join(tmpdir(), "greenroom-media-"))
  const removed = Layer.effectDiscard(
    Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true, force: true })))
  )
  return {
    directory,
    layer: gatewayWith({}, { ...home, media: { directory, ...media } }).pipe(Layer.provideMerge(removed))
  }
}

export interface Received {
  readonly status: number
  readonly headers: Headers
  readonly bytes: Buffer
  /** The body, if it is JSON. */
  readonly body: Body
}

export interface Send {
  readonly as?: TestUser | undefined
  readonly bytes?: Uint8Array | undefined
  readonly headers?: { readonly [name: string]: string }
}

/** Sends a request to any path of the gateway, and reads the answer as bytes. */
export const transfer = Effect.fnUntraced(function* (
  method: string,
  target: string,
  { as, bytes, headers }: Send = {}
) {
  const { url } = yield* Gateway
  return yield* Effect.promise(async (signal): Promise<Received> => {
    const response = await fetch(`${url}${target}`, {
      method,
      signal,
      headers: { ...(as === undefined ? {} : { authorization: `Bearer ${as.token}` }), ...headers },
      ...(bytes === undefined ? {} : { body: Buffer.from(bytes) })
    })
    const received = Buffer.from(await response.arrayBuffer())
    const isJson = response.headers.get("content-type")?.startsWith("application/json") && received.length > 0
    return {
      status: response.status,
      headers: response.headers,
      bytes: received,
      body: isJson ? JSON.parse(received.toString()) : {}
    }
  })
})

/** Uploads a file. Returns its `mxc://` URI without the scheme. */
export const upload = Effect.fnUntraced(function* (
  as: TestUser,
  bytes: Uint8Array | string,
  { name, type }: { readonly name?: string; readonly type?: string } = {}
) {
  const query = name === undefined ? "" : `?filename=${encodeURIComponent(name)}`
  const { body, status } = yield* transfer("POST", `/_matrix/media/v3/upload${query}`, {
    as,
    bytes: Buffer.from(bytes),
    headers: type === undefined ? {} : { "content-type": type }
  })
  if (status !== 200) return yield* Effect.die(new Error(`${status} ${JSON.stringify(body)}`))
  return String(body.content_uri).replace(/^mxc:\/\//, "")
})

/** Downloads a file with an access token. */
export const download = (as: TestUser, file: string, headers: { readonly [name: string]: string } = {}) =>
  transfer("GET", `/_matrix/client/v1/media/download/${file}`, { as, headers })

/** A PNG of one pixel. */
export const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64"
)
