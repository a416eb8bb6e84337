/** Home servers with gateways and federation listeners that trust an identity server, and users of them, all on loopback. */
import * as HomeServer from "@greenroom/actors/HomeServer"
import { FederationListener } from "@greenroom/gateway/federation/FederationListener"
import { Gateway } from "@greenroom/gateway/Gateway"
import { unlimited } from "@greenroom/gateway/Rate"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { IdentityHttp } from "../../../apps/identity/src/IdentityHttp.ts"
import { askUrl } from "../../../apps/identity/test/support/TestIdentity.ts"

/** A home server that trusts the identity server. */
const homeServer = Effect.gen(function* () {
  const identity = yield* IdentityHttp
  const port = yield* freePort
  const serverName = ServerName.make(`127.0.0.1:${port}`)
  const dataDir = yield* temporaryDirectory("identity")
  const { anonymous, requests, sends } = unlimited
  const listeners = Layer.mergeAll(
    Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited }),
    FederationListener.layer({ host: "127.0.0.1", port, rates: { anonymous, requests, sends } })
  )
  const context = yield* Layer.build(
    Layer.fresh(
      listeners.pipe(
        Layer.provideMerge(
          HomeServer.layerOnDatabase({
            serverName,
            dataDir,
            identityServers: [identity.url],
            federation: { verifyCertificates: false }
          })
        ),
        Layer.provideMerge(TestDatabase.layer)
      )
    )
  )
  return {
    serverName,
    port,
    url: Context.get(context, Gateway).url,
    sql: Context.get(context, SqlClient.SqlClient)
  }
})

export type Home = Effect.Success<typeof homeServer>

/** Two home servers. */
export class Homes extends Context.Service<Homes, { readonly red: Home; readonly blue: Home }>()(
  "greenroom/test/Homes"
) {
  static readonly layer = Layer.effect(
    Homes,
    Effect.map(Effect.all([homeServer, homeServer]), ([red, blue]) => ({ red, blue }))
  )
}

/** Registers a user of a home server. */
export const person = Effect.fnUntraced(function* (home: Home, name: string) {
  const at = (path: string) => `${home.url}${clientPrefix}${path}`
  const registered = yield* askUrl("POST", at("/register"), {
    type: "m.login.password",
    user: name,
    password: "secret"
  })
  const { access_token, user_id } = registered.body as unknown as Record<"access_token" | "user_id", string>
  const request = (method: string, path: string, json?: unknown) =>
    askUrl(method, at(path), json, { authorization: `Bearer ${access_token}` })
  return { home, userId: user_id, token: access_token, request }
})

export type Person = Effect.Success<ReturnType<typeof person>>

/** Creates a room. Returns its ID. */
export const createRoom = ({ request }: Person, content: object = {}) =>
  Effect.map(
    request("POST", "/createRoom", { visibility: "private", ...content }),
    ({ body }) => (body as unknown as { room_id: string }).room_id
  )

interface StreamEvent {
  readonly room_id: string
  readonly type: string
  readonly state_key: string
  readonly user_id: string
  readonly content: { readonly membership: string }
}

/** Waits for an invitation of the user to the room. Returns the inviter. */
export const inviterOf = Effect.fnUntraced(function* ({ request, userId }: Person, roomId: string) {
  let from = "START"
  while (true) {
    const { body } = yield* request("GET", `/events?from=${from}&timeout=20000`)
    const { chunk, end } = body as unknown as { chunk: ReadonlyArray<StreamEvent>; end: string }
    const found = chunk.find(
      ({ content, room_id, state_key, type }) =>
        type === "m.room.member" && room_id === roomId && state_key === userId && content.membership === "invite"
    )
    if (found !== undefined) return found.user_id
    from = encodeURIComponent(end)
  }
})

/** The membership of the user in the room, or the status of the answer if it is an error. */
export const membershipOf = ({ request }: Person, roomId: string, userId: string) =>
  Effect.map(
    request("GET", `/rooms/${encodeURIComponent(roomId)}/state/m.room.member/${encodeURIComponent(userId)}`),
    ({ body, status }) => (status === 200 ? (body as unknown as { membership: string }).membership : status)
  )

export const join = ({ request }: Person, roomId: string) => request("POST", `/join/${encodeURIComponent(roomId)}`, {})
