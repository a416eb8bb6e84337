/**
 * Home servers for tests of the transport of federation: a real TLS listener, a database, keys and the real client. Behind the
 * endpoints is a `Federation` that records requests and answers with fixed values.
 */
import { request as httpsRequest } from "node:https"
import { NodeCrypto } from "@effect/platform-node"
import { Federation } from "@greenroom/actors/federation/Federation"
import type { FederationOptions } from "@greenroom/actors/federation/FederationConfig"
import * as FederationLayer from "@greenroom/actors/federation/FederationLayer"
import { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import { ServerServer } from "@greenroom/actors/federation/ServerServer"
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { Media } from "@greenroom/actors/media/Media"
import { Thumbnails } from "@greenroom/actors/media/Thumbnails"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
import { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import type { Transaction } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, Option } from "effect"
import { FederationListener, type FederationListenerOptions } from "../../../src/federation/FederationListener.ts"
import { unlimited } from "../../../src/Rate.ts"

/** The requests that reached a server. */
export class Received extends Context.Service<
  Received,
  { readonly transactions: Array<Transaction>; readonly pdus: Array<JsonObject>; readonly heardFrom: Array<ServerName> }
>()("greenroom/test/Received") {}

const notFound = Effect.fail(new NotFound({ error: "Not found" }))

/** The state that every room has. */
export const bigState = Array.from({ length: 2_000 }, (_, i) => ({
  pdu_id: `s${i}`,
  content: { text: "ü".repeat(200) }
}))

const recorded = Layer.effect(
  Federation,
  Effect.gen(function* () {
    const received = yield* Received
    const keep = (pdu: JsonObject) => Effect.sync(() => void received.pdus.push(pdu))
    const made = Effect.succeed({ room_version: "1-draft", event: { pdu_type: "m.room.member" } })
    return Federation.of({
      receiveTransaction: (_origin, transaction) =>
        Effect.sync(() => {
          received.transactions.push(transaction)
          return { pdus: {} }
        }),
      getPdu: (origin, eventId) => Effect.succeed({ origin, event_id: eventId }),
      getState: (_origin, _roomId, at) => Effect.succeed({ pdus: bigState, auth_chain: [{ at: at ?? null }] }),
      backfill: (_origin, _roomId, from, limit) => Effect.succeed([{ from, limit }]),
      pull: (_origin, after) => Effect.succeed([{ after }]),
      queryProfile: (_origin, userId, field) => Effect.succeed({ user_id: userId, field: field ?? null }),
      queryDirectory: () => notFound,
      queryPresence: (_origin, user_id) => Effect.succeed({ user_id, state: "online", presence: "online" }),
      makeJoin: () => made,
      sendJoin: (_origin, _roomId, _eventId, pdu) => Effect.as(keep(pdu), { state: bigState, auth_chain: [] }),
      makeLeave: () => made,
      sendLeave: (_origin, _roomId, _eventId, pdu) => keep(pdu),
      makeKnock: () => made,
      sendKnock: (_origin, _roomId, _eventId, pdu) => keep(pdu),
      invite: (_origin, _roomId, eventId, pdu) => Effect.succeed({ event: { ...pdu, event_id: eventId } }),
      heardFrom: (origin) => Effect.sync(() => void received.heardFrom.push(origin))
    })
  })
)

/** Today's server API, without any rooms. */
const noRooms = Layer.succeed(ServerServer, {
  event: () => notFound,
  getState: () => notFound,
  getStateIds: () => notFound,
  getEventAuth: () => notFound,
  backfill: () => notFound,
  getMissingEvents: () => notFound,
  timestampToEvent: () => notFound,
  toPdus: () => Effect.succeed([]),
  makeMembership: () => notFound,
  sendJoin: () => notFound,
  sendLeave: () => notFound,
  sendKnock: () => notFound,
  invite: () => notFound,
  publicRooms: () => notFound,
  hierarchy: () => notFound,
  userInfo: () => notFound
})

const noInvites = Layer.succeed(ThirdPartyInvites, {
  check: () => notFound,
  invite: () => notFound,
  accept: () => notFound,
  onBind: () => notFound,
  exchange: () => notFound,
  exchangeToday: () => notFound
})

/** The policy server of no room. */
const noPolicies = Layer.succeed(PolicyServer, { publicKey: Option.none(), sign: () => notFound })

/** A content repository without files. */
const noFiles = Layer.merge(
  Layer.succeed(Media, {
    maxUploadBytes: 0,
    upload: () => notFound,
    create: () => notFound,
    uploadTo: () => notFound,
    find: () => notFound
  }),
  Layer.succeed(Thumbnails, { of: () => notFound })
)

/** End-to-end encryption without any keys. */
const noKeys = Layer.merge(
  Layer.succeed(DeviceKeys, {
    upload: () => notFound,
    changed: Effect.void,
    counts: () => Effect.succeed({ oneTime: {}, unusedFallback: [] }),
    devicesOf: () => Effect.succeed({ devices: "[]", streamId: 0 }),
    query: () => notFound,
    claim: () => notFound
  }),
  Layer.succeed(CrossSigning, {
    upload: () => notFound,
    sign: () => notFound,
    query: () => Effect.succeed({ master_keys: "{}", self_signing_keys: "{}", user_signing_keys: "{}" })
  })
)

/** A server that listens on the port of its name. */
export const server = (
  serverName: ServerName,
  listener: Partial<FederationListenerOptions> = {},
  federation: FederationOptions = {}
) =>
  Layer.unwrap(
    Effect.map(temporaryDirectory("federation"), (dataDir) => {
      const port = Number(/:([0-9]+)$/.exec(serverName)?.[1] ?? 0)
      const { anonymous, requests, sends } = unlimited
      return FederationListener.layer({
        host: "127.0.0.1",
        port,
        rates: { anonymous, requests, sends },
        ...listener
      }).pipe(
        Layer.provideMerge(recorded),
        Layer.provideMerge(Layer.mergeAll(noInvites, noRooms, noFiles, noKeys, noPolicies)),
        Layer.provideMerge(Layer.sync(Received, () => ({ transactions: [], pdus: [], heardFrom: [] }))),
        Layer.provideMerge(FederationLayer.layer({ verifyCertificates: false, ...federation })),
        Layer.provideMerge(Layer.merge(SigningKeys.layer(serverName), EventLog.layer)),
        Layer.provideMerge(Layer.merge(Layer.succeed(HomeServerConfig, { serverName, dataDir }), Departure.layer)),
        Layer.provideMerge(Layer.fresh(TestDatabase.layer)),
        Layer.provideMerge(NodeCrypto.layer)
      )
    })
  )

export interface Ask {
  readonly port: number
  readonly method?: string
  readonly path: string
  readonly headers?: { readonly [name: string]: string | ReadonlyArray<string> }
  readonly body?: string | Uint8Array
}

export interface Answer {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}

/** Sends a request to a server on this machine. */
export const ask = ({ body, headers = {}, method = "GET", path, port }: Ask): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const request = httpsRequest(
      { host: "127.0.0.1", port, method, path, headers: headers as never, rejectUnauthorized: false, agent: false },
      (response) => {
        const chunks: Array<Buffer> = []
        response.on("data", (chunk: Buffer) => chunks.push(chunk))
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString()
          resume(Effect.succeed({ status: response.statusCode ?? 0, body: JSON.parse(text) }))
        })
      }
    )
    request.on("error", () => {})
    request.end(body)
  })
