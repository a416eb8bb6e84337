/**
 * A whole gateway for tests: the real server on a free port, the real actors, a database of its own. And a client as
 * plain as curl.
 */
import * as HomeServer from "@greenroom/actors/HomeServer"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Redacted } from "effect"
import { Gateway, type GatewayOptions } from "../src/Gateway.ts"
import { unlimited } from "../src/Rate.ts"

export const serverName = ServerName.make("green.test")

/** The draft's prefix. */
export const prefix = "/matrix/client/api/v1"

const homeServerWith = (home: Partial<HomeServer.HomeServerOptions>) =>
  Layer.unwrap(
    Effect.map(temporaryDirectory("gateway"), (dataDir) =>
      HomeServer.layerOnDatabase({
        serverName,
        dataDir,
        turn: { uris: ["turn:turn.test"], sharedSecret: Redacted.make("hush") },
        ...home
      })
    )
  )

/** A gateway on the database of the context. */
export const gatewayOnDatabase = (
  options: Partial<GatewayOptions> = {},
  home: Partial<HomeServer.HomeServerOptions> = {}
) =>
  Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited, ...options }).pipe(
    Layer.provideMerge(homeServerWith(home))
  )

/** A gateway on a database of its own. */
export const gatewayWith = (options: Partial<GatewayOptions>, home: Partial<HomeServer.HomeServerOptions> = {}) =>
  gatewayOnDatabase(options, home).pipe(Layer.provideMerge(TestDatabase.layer))

export const gateway = gatewayWith({})

export const inPath = encodeURIComponent

/** An event as clients get it. Its sender is `user_id` in the draft's API, and `sender` in today's. */
export interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly room_id: string
  readonly user_id: string
  readonly sender: string
  readonly state_key?: string
  readonly origin_server_ts?: number
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: { readonly [key: string]: unknown }
}

/** Keys of the answers of the client API; an answer has some of them. */
export interface Body {
  readonly errcode: string
  readonly error: string
  readonly retry_after_ms: number
  readonly user_id: string
  readonly access_token: string
  readonly room_id: string
  readonly event_id: string
  readonly chunk: ReadonlyArray<ClientEvent>
  readonly start: string
  readonly end: string
  readonly [key: string]: unknown
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body, if it is JSON. */
  readonly body: Body
}

export interface Ask {
  readonly token?: string | undefined
  /** Sent as JSON. */
  readonly json?: unknown
  /** Sent as it is. */
  readonly body?: RequestInit["body"]
  readonly headers?: Record<string, string>
  readonly redirect?: NonNullable<RequestInit["redirect"]>
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
      ...(body === undefined ? {} : { body }),
      ...(options.redirect === undefined ? {} : { redirect: options.redirect })
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: parse(text) }
  })
})

/** Asks today's client API: a path below `/_matrix/client`. */
export const askToday = (method: string, path: string, options: Ask = {}) =>
  ask(method, `//_matrix/client${path}`, options)

/** The status of an answer, and its error code if it has one. */
export const outcome = ({ body, status }: { readonly status: number; readonly body: { readonly errcode?: string } }) =>
  `${status} ${body?.errcode ?? ""}`.trim()

export interface TestUser {
  readonly id: string
  readonly token: string
}

/** Asks today's client API as a user. */
export const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

/** Asks the draft's client API as a user. */
export const asDraft = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  ask(method, path, { token: user.token, json })

/** A user with the password `secret-<name>`. */
export const register = Effect.fnUntraced(function* (name: string): Effect.fn.Return<TestUser, never, Gateway> {
  const { body } = yield* ask("POST", "/register", {
    json: { type: "m.login.password", user: name, password: `secret-${name}` }
  })
  return { id: body.user_id, token: body.access_token }
})

/** The stage, or login, by the password of a user. */
export const passwordOf = (name: string, password = `secret-${name}`) => ({
  type: "m.login.password",
  identifier: { type: "m.id.user", user: name },
  password
})

/** Logs a user in by password. `more` is the rest of the body, such as `device_id`. */
export const logIn = (name: string, password?: string, more: object = {}) =>
  askToday("POST", "/v3/login", { json: { ...passwordOf(name, password), ...more } })

/** A room that `user` created by the draft's API: public, if the options do not say otherwise. */
export const createRoom = Effect.fnUntraced(function* (user: TestUser, options: object = {}) {
  const { body } = yield* ask("POST", "/createRoom", { token: user.token, json: options })
  return body.room_id
})

/** A room that `owner` created by today's API, public if the options do not say otherwise, and that the others joined. */
export const roomWith = Effect.fnUntraced(function* (
  owner: TestUser,
  others: ReadonlyArray<TestUser> = [],
  options: object = {}
) {
  const { body } = yield* as(owner)("POST", "/v3/createRoom", { preset: "public_chat", ...options })
  for (const user of others) yield* joinRoom(user, body.room_id)
  return body.room_id
})

export const joinRoom = (user: TestUser, room: string) => as(user)("POST", `/v3/join/${inPath(room)}`, {})

let transactions = 0

/** Sends an event to a room, with a transaction ID of its own. */
export const sendEvent = (user: TestUser, room: string, content: object, type = "m.room.message") =>
  as(user)("PUT", `/v3/rooms/${inPath(room)}/send/${type}/event${transactions++}`, content)

/** Sends a text message to a room. Returns its event ID. `more` is the rest of its content. */
export const sendText = (user: TestUser, room: string, body: string, more: object = {}) =>
  Effect.map(sendEvent(user, room, { msgtype: "m.text", body, ...more }), ({ body }) => body.event_id)

/** Redacts an event of a room. */
export const redactEvent = (user: TestUser, room: string, eventId: string) =>
  as(user)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(eventId)}/redaction${transactions++}`, {})

/** Sets the state of a room under a type, and a state key. */
export const putState = (user: TestUser, room: string, type: string, content: object, stateKey = "") =>
  as(user)("PUT", `/v3/rooms/${inPath(room)}/state/${type}/${inPath(stateKey)}`, content)

/** Reads the state of a room. Returns a function from type and state key to content. */
export const stateOf = (user: TestUser, room: string) =>
  Effect.map(as(user)("GET", `/v3/rooms/${inPath(room)}/state`), ({ body }) => {
    const events = body as unknown as ReadonlyArray<ClientEvent>
    return (type: string, stateKey = "") =>
      events.find((event) => event.type === type && event.state_key === stateKey)?.content
  })

/** The bodies of the messages among some events; undefined for a message that was redacted. */
export const messageBodies = (events: unknown = []) =>
  (events as ReadonlyArray<ClientEvent>).flatMap(({ content, type }) =>
    type === "m.room.message" ? [content.body] : []
  )
