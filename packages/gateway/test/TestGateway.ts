/**
 * A whole gateway for tests: the real server on a free port, the real actors, a database of its own. And a client as
 * plain as curl.
 */

import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as HomeServer from "@greenroom/actors/HomeServer"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Redacted } from "effect"
import { Gateway, type GatewayOptions } from "../src/Gateway.ts"
import { unlimited } from "../src/Rate.ts"

export const serverName = ServerName.make("green.test")

/** The draft's prefix. */
export const prefix = "/matrix/client/api/v1"

/** A directory of its own, which goes with the scope. */
const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "greenroom-gateway-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const homeServerWith = (home: Partial<HomeServer.HomeServerOptions>) =>
  Layer.unwrap(
    Effect.map(temporaryDirectory, (dataDir) =>
      HomeServer.layerOnDatabase({
        serverName,
        dataDir,
        turn: { uris: ["turn:turn.test"], sharedSecret: Redacted.make("hush") },
        ...home
      })
    )
  )

export const gatewayOn = <A, E>(
  database: Layer.Layer<A, E>,
  options: Partial<GatewayOptions> = {},
  home: Partial<HomeServer.HomeServerOptions> = {}
) =>
  Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited, ...options }).pipe(
    Layer.provideMerge(homeServerWith(home)),
    Layer.provideMerge(database as Layer.Layer<A | Layer.Success<typeof TestDatabase.layer>, E>)
  )

export const gatewayWith = (options: Partial<GatewayOptions>, home: Partial<HomeServer.HomeServerOptions> = {}) =>
  gatewayOn(TestDatabase.layer, options, home)

export const gateway = gatewayWith({})

export const inPath = encodeURIComponent

/** An event, as far as tests look at it. */
export interface Seen {
  readonly event_id: string
  readonly type: string
  readonly room_id: string
  readonly user_id: string
  readonly content: { readonly [key: string]: unknown }
}

/** The keys that the answers of the client API have, each in some. */
export interface Body {
  readonly errcode: string
  readonly error: string
  readonly retry_after_ms: number
  readonly user_id: string
  readonly access_token: string
  readonly room_id: string
  readonly event_id: string
  readonly chunk: ReadonlyArray<Seen>
  readonly start: string
  readonly end: string
  readonly [key: string]: unknown
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body, where it is JSON. */
  readonly body: Body
}

export interface Ask {
  readonly token?: string | undefined
  /** Sent as JSON. */
  readonly json?: unknown
  /** Sent as it is. */
  readonly body?: RequestInit["body"]
  readonly headers?: Record<string, string>
}

const parse = (text: string) => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Asks the gateway. A path without a leading `//` is under the client API's prefix. */
export const ask = Effect.fnUntraced(function* (method: string, path: string, options: Ask = {}) {
  const { url } = yield* Gateway
  const target = path.startsWith("//") ? path.slice(1) : `${prefix}${path}`
  const body = options.json === undefined ? options.body : JSON.stringify(options.json)
  return yield* Effect.promise(async (signal): Promise<Answer> => {
    const response = await fetch(`${url}${target}`, {
      method,
      signal,
      headers: {
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
        ...options.headers
      },
      ...(body === undefined ? {} : { body })
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: parse(text) }
  })
})

/** Asks today's client API: a path below `/_matrix/client`. */
export const askToday = (method: string, path: string, options: Ask = {}) =>
  ask(method, `//_matrix/client${path}`, options)

export interface TestUser {
  readonly id: string
  readonly token: string
}

/** Asks today's client API as a user. */
export const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

let transactions = 0

/** Sends a text message to a room, and gives its event ID. `more` is the rest of its content. */
export const say = (user: TestUser, room: string, text: string, more: object = {}) =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/say${transactions++}`, {
      msgtype: "m.text",
      body: text,
      ...more
    }),
    ({ body }) => body.event_id
  )

/** A user with the password `secret-<name>`. */
export const register = Effect.fnUntraced(function* (name: string): Effect.fn.Return<TestUser, never, Gateway> {
  const { body } = yield* ask("POST", "/register", {
    json: { type: "m.login.password", user: name, password: `secret-${name}` }
  })
  return { id: body.user_id, token: body.access_token }
})

/** A room that `user` created. */
export const createRoom = Effect.fnUntraced(function* (user: TestUser, options: object = {}) {
  const { body } = yield* ask("POST", "/createRoom", { token: user.token, json: options })
  return body.room_id
})
