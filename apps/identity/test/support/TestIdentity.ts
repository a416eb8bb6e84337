/** An identity server on a free port with a new database and an SMTP server, and requests to it. */
import { NodeServices } from "@effect/platform-node"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import * as IdentityDatabase from "../../src/IdentityDatabase.ts"
import { IdentityHttp } from "../../src/IdentityHttp.ts"
import type { IdentityOptionsShape } from "../../src/IdentityOptions.ts"
import * as IdentityServer from "../../src/IdentityServer.ts"
import { Mailbox } from "./Mailbox.ts"

export const serverName = ServerName.make("id.test")

export const unlimited = { requests: "off", messages: "off", tries: "off", lookups: "off" } as const

/** Options that override the defaults of the tests. */
export interface TestOptions extends Partial<Omit<IdentityServer.IdentityServerOptions, "identity">> {
  readonly identity?: Partial<IdentityOptionsShape>
}

export const minute = 60_000
export const hour = 60 * minute

export const toOptions = (
  { identity, ...rest }: TestOptions,
  smtpPort: number
): IdentityServer.IdentityServerOptions => ({
  identity: {
    serverName,
    publicUrl: "http://id.test",
    linkLifetime: 24 * hour,
    codeLifetime: 10 * minute,
    sessionLifetime: 24 * hour,
    pepperLifetime: 7 * 24 * hour,
    singleLookup: true,
    addressRate: { limit: 5, window: hour },
    terms: [],
    peers: [],
    homeServers: new Map(),
    privateAddresses: false,
    verifyCertificates: true,
    ...identity
  },
  http: { host: "127.0.0.1", port: 0, trustedProxies: [] },
  smtp: {
    host: "127.0.0.1",
    port: smtpPort,
    security: "none",
    from: { name: "Greenroom", address: "noreply@id.test" },
    verifyCertificate: true
  },
  rates: unlimited,
  trustedClients: [],
  ...rest
})

/** A new database of an identity server. */
export const database = Layer.unwrap(
  Effect.map(TestDatabase.emptyUrl, (databaseUrl) =>
    IdentityDatabase.layer({ databaseUrl, dataDir: "unused", maxConnections: 4 })
  )
)

/** An identity server with a given database and mailbox. */
export const serverOn = (options: TestOptions = {}) =>
  Layer.unwrap(Effect.map(Mailbox, ({ port }) => IdentityServer.layer(toOptions(options, port)))).pipe(
    Layer.provide(NodeServices.layer)
  )

export const identityWith = (options: TestOptions = {}) =>
  serverOn(options).pipe(Layer.provideMerge(Layer.mergeAll(database, Mailbox.layer)))

export const identity = identityWith()

/** Keys of answers. Each answer has some of them. */
export interface AnswerBody {
  readonly errcode: string
  readonly error: string
  readonly retry_after_ms: number
  readonly sid: string
  readonly msisdn: string
  readonly medium: string
  readonly address: string
  readonly mxid: string
  readonly ts: number
  readonly not_before: number
  readonly not_after: number
  readonly signatures: { readonly [serverName: string]: { readonly [keyId: string]: string } }
  readonly lookup_pepper: string
  readonly algorithm: string
  readonly mappings: { readonly [hash: string]: string } | undefined
  readonly token: string
  readonly public_key: string
  readonly public_keys: ReadonlyArray<{ readonly public_key: string; readonly key_validity_url: string }>
  readonly display_name: string
  readonly refused: ReadonlyArray<{ readonly index: number; readonly error: string }>
  readonly ok: boolean
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body, if it is JSON. */
  readonly body: AnswerBody
}

const parse = (text: string) => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const encodeBody = (json: unknown) =>
  (typeof json === "string" || json instanceof Uint8Array ? json : JSON.stringify(json)) as string

/** Sends a request to a URL. Text and bytes are sent unchanged, other values as JSON. */
export const askUrl = (method: string, url: string, json?: unknown, headers?: Record<string, string>) =>
  Effect.promise(async (signal): Promise<Answer> => {
    const response = await fetch(url, {
      method,
      signal,
      redirect: "manual",
      headers: { ...headers },
      ...(json === undefined ? {} : { body: encodeBody(json) })
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: parse(text) }
  })

/** Sends a request to the identity server. A path without a leading `//` is under the API's prefix. */
export const ask = Effect.fnUntraced(function* (
  method: string,
  path: string,
  json?: unknown,
  headers?: Record<string, string>
) {
  const { url } = yield* IdentityHttp
  return yield* askUrl(
    method,
    `${url}${path.startsWith("//") ? path.slice(1) : `${laterIdentityPrefix}${path}`}`,
    json,
    headers
  )
})

/** Requests a token by mail. */
export const requestMail = (email: string, clientSecret: string, sendAttempt = 1, more: object = {}) =>
  ask("POST", "/validate/email/requestToken", {
    client_secret: clientSecret,
    email,
    send_attempt: sendAttempt,
    ...more
  })

/** The link in the next mail, as a path of this server, and its parameters. */
export const takeLink = Effect.gen(function* () {
  const mail = yield* Mailbox.use(({ take }) => take)
  const link = new URL(/http:\/\/\S+/.exec(mail.text)![0])
  const { client_secret = "", sid = "", token = "" } = Object.fromEntries(link.searchParams)
  return { mail, path: `/${link.pathname}${link.search}`, client_secret, sid, token }
})

/** Validates an address by mail. Returns the session. */
export const validate = Effect.fnUntraced(function* (email: string, clientSecret: string) {
  yield* requestMail(email, clientSecret)
  const { client_secret, sid, token } = yield* takeLink
  yield* ask("POST", "/validate/email/submitToken", { sid, client_secret, token })
  return { sid, client_secret }
})

/** Binds an address to a user, by mail. */
export const bind = Effect.fnUntraced(function* (email: string, mxid: string) {
  const session = yield* validate(email, `bind-${email.replace(/[^a-z]/g, "")}-${mxid.replace(/[^a-z]/g, "")}`)
  const { body } = yield* ask("POST", "/3pid/bind", { ...session, mxid })
  return { session, association: body }
})

export const lookup = (address: string, medium = "email") =>
  Effect.map(ask("GET", `/lookup?medium=${medium}&address=${encodeURIComponent(address)}`), ({ body }) => body)
