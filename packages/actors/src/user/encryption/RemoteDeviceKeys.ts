/**
 * The keys of users of other servers: each server is asked when a client asks. A server that does not answer in time is a
 * failure of its own users alone.
 *
 * Source: "End-to-End Encryption" of the server-server specification.
 */
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { CrossSigningStore } from "@greenroom/store/CrossSigningStore"
import type { KeyClaim } from "@greenroom/store/DeviceKeyStore"
import { Context, Effect, Layer, Option } from "effect"
import { ServerServerClient } from "../../federation/ServerServerClient.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"

/** How long servers may take, in ms, where the client does not say, and at most. */
const usualTimeout = 10_000
const longestTimeout = 30_000
/** How many servers are asked at once. */
const concurrentServers = 32

export interface RemoteKeys {
  readonly device_keys: { readonly [userId: string]: JsonObject }
  readonly master_keys: { readonly [userId: string]: JsonObject }
  readonly self_signing_keys: { readonly [userId: string]: JsonObject }
  readonly failures: { readonly [server: string]: JsonObject }
}

export interface RemoteClaim {
  readonly one_time_keys: { readonly [userId: string]: JsonObject }
  readonly failures: { readonly [server: string]: JsonObject }
}

/** The members of an object that are objects and about users of a server. */
const ofServer = (server: ServerName, given: Json | undefined): { readonly [userId: string]: JsonObject } =>
  Object.fromEntries(
    Object.entries(isJsonObject(given) ? given : {}).filter(
      (entry): entry is [UserId, JsonObject] =>
        isJsonObject(entry[1]) && entry[0].includes(":") && serverNameOf(entry[0] as UserId) === server
    )
  )

/** Devices that are what their keys in the answer say. */
const checkedDevices = (userId: string, devices: JsonObject): JsonObject =>
  Object.fromEntries(
    Object.entries(devices).filter(
      ([deviceId, device]) => isJsonObject(device) && device.user_id === userId && device.device_id === deviceId
    )
  )

const withSignatures = (key: JsonObject, own: string | undefined): JsonObject => {
  if (own === undefined) return key
  return { ...key, signatures: { ...(isJsonObject(key.signatures) ? key.signatures : {}), ...JSON.parse(own) } }
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const client = yield* ServerServerClient
  const signing = yield* CrossSigningStore

  /** Asks each server for its users. Gives the answers, and the servers without one. */
  const askAll = Effect.fnUntraced(function* <A extends { readonly userId: UserId }>(
    wanted: ReadonlyArray<A>,
    timeout: number | undefined,
    ask: (server: ServerName, ofServer: ReadonlyArray<A>) => Effect.Effect<JsonObject, unknown>
  ) {
    const byServer = Map.groupBy(wanted, ({ userId }) => serverNameOf(userId))
    byServer.delete(serverName)
    const limit = Math.min(Math.max(timeout ?? usualTimeout, 0), longestTimeout)
    return yield* Effect.forEach(
      byServer,
      ([server, users]) =>
        ask(server, users).pipe(
          Effect.timeoutOption(limit),
          Effect.catch(() => Effect.succeed(Option.none<JsonObject>())),
          Effect.map((answer) => ({ server, answer }))
        ),
      { concurrency: concurrentServers }
    )
  })

  const failuresOf = (
    answers: ReadonlyArray<{ readonly server: ServerName; readonly answer: Option.Option<JsonObject> }>
  ): { readonly [server: string]: JsonObject } =>
    Object.fromEntries(answers.flatMap(({ answer, server }) => (Option.isNone(answer) ? [[server, {}]] : [])))

  const query = Effect.fn("RemoteDeviceKeys.query")(function* (
    requester: UserId,
    wanted: ReadonlyMap<UserId, ReadonlyArray<string>>,
    timeout: number | undefined
  ): Effect.fn.Return<RemoteKeys> {
    const users = Array.from(wanted, ([userId, devices]) => ({ userId, devices }))
    const answers = yield* askAll(users, timeout, (server, ofThem) =>
      client.queryKeys(server, Object.fromEntries(ofThem.map(({ devices, userId }) => [userId, devices])))
    )
    const own = yield* signing.signaturesBy(
      requester,
      users.map(({ userId }) => userId)
    )
    const collect = (member: string, read: (userId: string, value: JsonObject) => JsonObject) =>
      Object.fromEntries(
        answers.flatMap(({ answer, server }) =>
          Object.entries(ofServer(server, Option.getOrUndefined(answer)?.[member]))
            .filter(([userId]) => wanted.has(userId as UserId))
            .map(([userId, value]) => [userId, read(userId, value)])
        )
      )
    return {
      device_keys: collect("device_keys", checkedDevices),
      master_keys: collect("master_keys", (userId, key) => withSignatures(key, own.get(userId as UserId))),
      self_signing_keys: collect("self_signing_keys", (_, key) => key),
      failures: failuresOf(answers)
    }
  })

  const claim = Effect.fn("RemoteDeviceKeys.claim")(function* (
    claims: ReadonlyArray<KeyClaim>,
    timeout: number | undefined
  ): Effect.fn.Return<RemoteClaim> {
    const answers = yield* askAll(claims, timeout, (server, ofThem) => {
      const byUser = Map.groupBy(ofThem, ({ userId }) => userId)
      const wanted = Array.from(byUser, ([userId, devices]): [string, JsonObject] => [
        userId,
        Object.fromEntries(devices.map(({ algorithm, deviceId }) => [deviceId, algorithm]))
      ])
      return client.claimKeys(server, Object.fromEntries(wanted))
    })
    return {
      one_time_keys: Object.assign(
        {},
        ...answers.map(({ answer, server }) => ofServer(server, Option.getOrUndefined(answer)?.one_time_keys))
      ),
      failures: failuresOf(answers)
    }
  })

  return RemoteDeviceKeys.of({ query, claim })
})

export class RemoteDeviceKeys extends Context.Service<
  RemoteDeviceKeys,
  {
    /** The keys of users of other servers, as the requester may see them. Users of ours are left out. `timeout` is in ms. */
    readonly query: (
      requester: UserId,
      wanted: ReadonlyMap<UserId, ReadonlyArray<string>>,
      timeout: number | undefined
    ) => Effect.Effect<RemoteKeys>
    /** Keys of devices of users of other servers. */
    readonly claim: (claims: ReadonlyArray<KeyClaim>, timeout: number | undefined) => Effect.Effect<RemoteClaim>
  }
>()("greenroom/actors/RemoteDeviceKeys") {
  static readonly layer = Layer.effect(RemoteDeviceKeys, make)
}
