/**
 * The keys of users of other servers. The devices of users who share a room with one of ours are kept
 * (`RemoteDeviceListStore`), and their server is asked where that list is not current. Devices of others are asked for each
 * time, and so are one-time keys.
 *
 * A server that does not answer in time is a failure of its own users alone. Their known devices are given nevertheless.
 *
 * Source: "End-to-End Encryption" and "Device Management" of the server-server specification.
 */
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import type { TooLarge } from "@greenroom/protocol/MatrixError"
import { CrossSigningStore } from "@greenroom/store/CrossSigningStore"
import { type KeyClaim, mergeSignatures } from "@greenroom/store/DeviceKeyStore"
import { takeBytes, whileWaiting } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type KnownDevices, RemoteDeviceListStore, type RemoteDevices } from "@greenroom/store/RemoteDeviceListStore"
import { Context, Effect, Layer, Option } from "effect"
import { RemoteDeviceLists } from "../../federation/RemoteDeviceLists.ts"
import { readQueriedUser } from "../../federation/RemoteUserKeys.ts"
import { ServerServerClient } from "../../federation/ServerServerClient.ts"
import { awaitingOthers, withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { sliced } from "../../runtime/Slices.ts"
import { checkClaims, objectText } from "./DeviceKeys.ts"

/** How long servers may take, in ms, by default and at most. */
const usualTimeout = 10_000
const longestTimeout = 30_000
/** How many bytes the answers of all servers to one claim may have. */
const maxClaimBytes = 32 * 1024 * 1024
/** How many servers are asked at once. */
const concurrentServers = 32

/** JSON text: objects by user, and by server. */
export interface RemoteKeys {
  readonly device_keys: string
  readonly master_keys: string
  readonly self_signing_keys: string
  readonly failures: string
}

/** The claimed keys of users of other servers, and the servers that failed, as JSON text. */
export interface RemoteClaim {
  readonly one_time_keys: string
  readonly failures: string
}

/** The devices that are wanted of each user; an empty list wants all. */
type Wanted = ReadonlyMap<UserId, ReadonlyArray<string>>

/** The answer of a server: users whose devices are not kept, and whether it left something out. */
interface Asked {
  readonly server: ServerName
  readonly strangers: ReadonlyArray<readonly [UserId, RemoteDevices]>
  readonly hasFailed: boolean
}

const none: RemoteKeys = { device_keys: "{}", master_keys: "{}", self_signing_keys: "{}", failures: "{}" }

/** The keys of an answer that were claimed, as JSON text by user: a server may name other users, devices and algorithms. */
function* claimedKeys(
  claims: ReadonlyArray<KeyClaim>,
  given: Json | undefined
): Generator<void, ReadonlyArray<readonly [UserId, string]>> {
  const found = new Map<UserId, Array<readonly [string, string]>>()
  for (const { algorithm, deviceId, userId } of claims) {
    yield
    const devices = isJsonObject(given) ? given[userId] : undefined
    const keys = isJsonObject(devices) ? devices[deviceId] : undefined
    if (!isJsonObject(keys)) continue
    const ofAlgorithm = Object.entries(keys).filter(([keyId]) => keyId.startsWith(`${algorithm}:`))
    if (ofAlgorithm.length === 0) continue
    const text = objectText(ofAlgorithm.map(([keyId, key]) => [keyId, JSON.stringify(key)] as const))
    const ofUser = found.get(userId) ?? []
    ofUser.push([deviceId, text])
    found.set(userId, ofUser)
  }
  return [...found].map(([userId, devices]) => [userId, objectText(devices)] as const)
}

const bytesOf = (keys: ReadonlyArray<readonly [UserId, string]>): number =>
  keys.reduce((bytes, [, text]) => bytes + Buffer.byteLength(text), 0)

/** The wanted ones of the devices, as JSON text. */
const onlyDevices = (devices: string, wanted: ReadonlyArray<string>): string => {
  if (wanted.length === 0) return devices
  const names = new Set(wanted)
  return JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(devices)).filter(([name]) => names.has(name))))
}

/** A key with the signatures of the asking user. */
const withSignatures = (key: string, own: string | undefined): string => {
  if (own === undefined) return key
  const { signatures = {}, ...rest } = JSON.parse(key) as JsonObject
  return JSON.stringify({ ...rest, signatures: JSON.parse(mergeSignatures(JSON.stringify(signatures), own)) })
}

/** The time until which all servers of a request may answer, on the monotonic clock: those that are asked last have less time. */
const deadlineOf = (timeout: number | undefined): Effect.Effect<number> =>
  Effect.map(monotonicMillis, (now) => now + Math.min(Math.max(timeout ?? usualTimeout, 0), longestTimeout))

const until = <A, E>(deadline: number, effect: Effect.Effect<A, E>): Effect.Effect<Option.Option<A>, E> =>
  Effect.flatMap(monotonicMillis, (now) => Effect.timeoutOption(effect, Math.max(0, deadline - now)))

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const client = yield* ServerServerClient
  const signing = yield* CrossSigningStore
  const store = yield* RemoteDeviceListStore
  const lists = yield* RemoteDeviceLists

  const askForStrangers = Effect.fnUntraced(function* (
    server: ServerName,
    userIds: ReadonlyArray<UserId>,
    wanted: Wanted
  ) {
    if (userIds.length === 0) return []
    const devices = Object.fromEntries(userIds.map((userId) => [userId, wanted.get(userId) ?? []]))
    const answer = yield* client.queryKeys(server, devices)
    return yield* sliced(function* () {
      const read: Array<readonly [UserId, RemoteDevices]> = []
      for (const userId of userIds) read.push([userId, yield* readQueriedUser(userId, answer)])
      return read
    })
  })

  const askServer = Effect.fnUntraced(function* (
    server: ServerName,
    known: ReadonlyArray<KnownDevices>,
    wanted: Wanted,
    deadline: number
  ): Effect.fn.Return<Asked> {
    const idsOf = (isShared: boolean) => known.filter((user) => user.isShared === isShared).map(({ userId }) => userId)
    const shared = idsOf(true)
    const isUrgent = known.some(({ isShared, keys }) => isShared && keys === undefined)
    const [missing, strangers] = yield* Effect.all(
      [
        shared.length === 0
          ? Effect.succeed(Option.some<ReadonlySet<UserId>>(new Set()))
          : until(deadline, lists.fetch(server, shared, isUrgent)),
        Effect.orElseSucceed(until(deadline, askForStrangers(server, idsOf(false), wanted)), () => Option.none())
      ],
      { concurrency: 2 }
    )
    return {
      server,
      strangers: Option.getOrElse(strangers, () => []),
      hasFailed: Option.isNone(strangers) || Option.isNone(missing) || missing.value.size > 0
    }
  })

  /** The keys of users of other servers, and the servers that did not answer. */
  const keysOf = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, wanted: Wanted, deadline: number) {
    const known = yield* store.read(userIds)
    const outdated = known.filter(({ isCurrent }) => !isCurrent)
    const asked = yield* whileWaiting(
      Effect.forEach(
        Map.groupBy(outdated, ({ userId }) => serverNameOf(userId)),
        ([server, ofServer]) => askServer(server, ofServer, wanted, deadline),
        { concurrency: concurrentServers }
      )
    )
    const fetched = yield* store.read(outdated.filter(({ isShared }) => isShared).map(({ userId }) => userId))
    const keys = new Map<UserId, RemoteDevices>(asked.flatMap(({ strangers }) => strangers))
    for (const user of [...known, ...fetched]) if (user.keys !== undefined) keys.set(user.userId, user.keys)
    return { keys, failures: asked.flatMap(({ hasFailed, server }) => (hasFailed ? [[server, "{}"] as const] : [])) }
  })

  const query = Effect.fn("RemoteDeviceKeys.query")(function* (
    requester: UserId,
    wanted: Wanted,
    timeout: number | undefined
  ): Effect.fn.Return<RemoteKeys> {
    const userIds = [...wanted.keys()].filter((userId) => serverNameOf(userId) !== serverName)
    if (userIds.length === 0) return none
    const { failures, keys } = yield* keysOf(userIds, wanted, yield* deadlineOf(timeout))
    const own = yield* signing.signaturesBy(requester, userIds)
    const textsOf = (read: (keys: RemoteDevices, userId: UserId) => string | undefined) =>
      objectText(
        [...keys].flatMap(([userId, ofUser]) => {
          const text = read(ofUser, userId)
          return text === undefined ? [] : [[userId, text] as const]
        })
      )
    return {
      device_keys: textsOf(({ devices }, userId) => onlyDevices(devices, wanted.get(userId) ?? [])),
      master_keys: textsOf(({ masterKey }, userId) => masterKey && withSignatures(masterKey, own.get(userId))),
      self_signing_keys: textsOf(({ selfSigningKey }) => selfSigningKey),
      failures: objectText(failures)
    }
  })

  const claimAt = (server: ServerName, claims: ReadonlyArray<KeyClaim>) => {
    const byUser = Map.groupBy(claims, ({ userId }) => userId)
    const wanted = Array.from(byUser, ([userId, devices]): [string, JsonObject] => [
      userId,
      Object.fromEntries(devices.map(({ algorithm, deviceId }) => [deviceId, algorithm]))
    ])
    return Effect.flatMap(client.claimKeys(server, Object.fromEntries(wanted), claims.length), ({ one_time_keys }) =>
      sliced(() => claimedKeys(claims, one_time_keys))
    )
  }

  const claim = Effect.fn("RemoteDeviceKeys.claim")(function* (
    requester: UserId,
    claims: ReadonlyArray<KeyClaim>,
    timeout: number | undefined
  ): Effect.fn.Return<RemoteClaim, TooLarge> {
    yield* checkClaims(claims)
    const byServer = Map.groupBy(claims, ({ userId }) => serverNameOf(userId))
    byServer.delete(serverName)
    const deadline = yield* deadlineOf(timeout)
    const asked = Effect.forEach(
      byServer,
      ([server, ofThem]) =>
        until(deadline, claimAt(server, ofThem)).pipe(
          Effect.orElseSucceed(() => Option.none()),
          Effect.map((keys) => ({ server, keys }))
        ),
      { concurrency: concurrentServers }
    )
    const counted = Effect.tap(asked, (answers) =>
      awaitingOthers(takeBytes(bytesOf(answers.flatMap(({ keys }) => Option.getOrElse(keys, () => [])))))
    )
    const answers = byServer.size === 0 ? [] : yield* withAnswerBudget(maxClaimBytes, requester, counted)
    return {
      one_time_keys: objectText(answers.flatMap(({ keys }) => Option.getOrElse(keys, () => []))),
      failures: objectText(answers.flatMap(({ keys, server }) => (Option.isNone(keys) ? [[server, "{}"]] : [])))
    }
  })

  return RemoteDeviceKeys.of({ query, claim })
})

/** Keys of devices of users of other servers. */
export class RemoteDeviceKeys extends Context.Service<
  RemoteDeviceKeys,
  {
    /**
     * The keys of users of other servers, as the requester may see them. Users of ours are left out. `timeout` is in ms. A server
     * in `failures` gave nothing: what is known of its users may be outdated.
     */
    readonly query: (requester: UserId, wanted: Wanted, timeout: number | undefined) => Effect.Effect<RemoteKeys>
    /** Keys of devices of users of other servers. Errors: M_TOO_LARGE. */
    readonly claim: (
      requester: UserId,
      claims: ReadonlyArray<KeyClaim>,
      timeout: number | undefined
    ) => Effect.Effect<RemoteClaim, TooLarge>
  }
>()("greenroom/actors/RemoteDeviceKeys") {
  static readonly layer = Layer.effect(RemoteDeviceKeys, make)
}
