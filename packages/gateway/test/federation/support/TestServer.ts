/**
 * Home servers as far as federation's transport goes: a real TLS listener, a database and keys of their own, and the real
 * client. What stands behind the endpoints is `RecordedFederation`, which keeps what reached it and answers plainly.
 */
import { mkdtemp, rm } from "node:fs/promises"
import { request as httpsRequest } from "node:https"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
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
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, Option } from "effect"
import { FederationListener, type FederationListenerOptions } from "../../../src/federation/FederationListener.ts"
import { unlimited } from "../../../src/Rate.ts"

/** The requests that reached a server. */
export class Received extends Context.Service<
  Received,
  { readonly transactions: Array<Transaction>; readonly pdus: Array<JsonObject>; readonly heardFrom: Array<ServerName> }
>()("greenroom/test/Received") {}

const nothing = Effect.fail(new NotFound({ error: "There is no such thing" }))

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
      queryDirectory: () => nothing,
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

/** Nothing of today's rooms is there. */
const noRooms = Layer.succeed(ServerServer, {
  event: () => nothing,
  getState: () => nothing,
  getStateIds: () => nothing,
  getEventAuth: () => nothing,
  backfill: () => nothing,
  getMissingEvents: () => nothing,
  timestampToEvent: () => nothing,
  toPdus: () => Effect.succeed([]),
  makeMembership: () => nothing,
  sendJoin: () => nothing,
  sendLeave: () => nothing,
  sendKnock: () => nothing,
  invite: () => nothing,
  publicRooms: () => nothing,
  hierarchy: () => nothing,
  userInfo: () => nothing
})

const noInvites = Layer.succeed(ThirdPartyInvites, {
  check: () => nothing,
  invite: () => nothing,
  onBind: () => nothing,
  exchange: () => nothing,
  exchangeToday: () => nothing
})

/** It is the policy server of no room. */
const noPolicies = Layer.succeed(PolicyServer, { publicKey: Option.none(), sign: () => nothing })

/** No files are there. */
const noFiles = Layer.merge(
  Layer.succeed(Media, {
    maxUploadBytes: 0,
    upload: () => nothing,
    create: () => nothing,
    uploadTo: () => nothing,
    find: () => nothing
  }),
  Layer.succeed(Thumbnails, { of: () => nothing })
)

/** A key source without any keys. */
const noKeys = Layer.merge(
  Layer.succeed(DeviceKeys, {
    upload: () => nothing,
    changed: Effect.void,
    counts: () => Effect.succeed({ oneTime: {}, unusedFallback: [] }),
    devicesOf: () => Effect.succeed({ devices: "[]", streamId: 0 }),
    query: () => nothing,
    claim: () => nothing
  }),
  Layer.succeed(CrossSigning, {
    upload: () => nothing,
    sign: () => nothing,
    query: () => Effect.succeed({ master_keys: "{}", self_signing_keys: "{}", user_signing_keys: "{}" })
  })
)

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "greenroom-federation-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** A port that is free now. */
export const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** A server, listening on the port of its name. `listener` and `federation` change what it does. */
export const server = (
  serverName: ServerName,
  listener: Partial<FederationListenerOptions> = {},
  federation: FederationOptions = {}
) =>
  Layer.unwrap(
    Effect.map(temporaryDirectory, (dataDir) => {
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
        Layer.provideMerge(SigningKeys.layer(serverName)),
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

/** A request as it is, to a server on this machine. */
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
