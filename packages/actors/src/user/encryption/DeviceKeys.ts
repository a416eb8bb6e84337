/**
 * The keys of devices for end-to-end encryption: uploads, queries, claims.
 *
 * Keys are opaque here: signatures of devices are checked by other devices, which trust no server.
 *
 * Source: "Key management API" of the client-server specification.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, InvalidParam, type MatrixError, TooLarge, UserLimitExceeded } from "@greenroom/protocol/MatrixError"
import { encode } from "@greenroom/room/CanonicalJson"
import {
  DeviceKeyStore,
  type KeyClaim,
  type PrekeyCounts,
  type PrekeyUpload,
  type SignedKeys,
  type StoredDeviceKeys
} from "@greenroom/store/DeviceKeyStore"
import { DeviceListStore } from "@greenroom/store/DeviceListStore"
import { Clock, Context, Effect, Layer, Result } from "effect"
import { Peers } from "../../federation/Peers.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"

export type { KeyClaim } from "@greenroom/store/DeviceKeyStore"

/** The most one-time keys of a device that wait to be claimed. */
const maxOneTimeKeys = 1_000
/** The most fallback keys of a device, one for each algorithm. */
const maxFallbackKeys = 20
/** The most bytes of one identity key, and of its signatures; of one key that is claimed, signatures included. */
const maxKeyBytes = 65_536
const maxPrekeyBytes = 8_192
/** The most users of one query, and keys of one claim. */
const maxQueriedUsers = 5_000
const maxClaims = 10_000

/** The keys that a device uploads. */
export interface KeyUploadRequest {
  readonly device_keys?: JsonObject | undefined
  readonly one_time_keys?: JsonObject | undefined
  readonly fallback_keys?: JsonObject | undefined
}

const keyNamePattern = /^([^:\0]{1,255}):([^\0]{1,255})$/u

/** The canonical JSON of a key. Errors: M_INVALID_PARAM, M_TOO_LARGE. */
const canonicalKey = (name: string, value: Json, most = maxKeyBytes): Effect.Effect<string, MatrixError> => {
  const encoded = encode(value)
  if (Result.isFailure(encoded)) return Effect.fail(new InvalidParam({ error: `${name}: ${encoded.failure.reason}` }))
  return encoded.success.length > most
    ? Effect.fail(new TooLarge({ error: `${name}: a key has at most ${most} bytes` }))
    : Effect.succeed(encoded.success)
}

/** An object that is signed, apart from its signatures. Errors: M_INVALID_PARAM, M_TOO_LARGE. */
export const splitSignatures = Effect.fnUntraced(function* (name: string, signed: JsonObject) {
  const { signatures = {}, unsigned: _, ...keys } = signed
  if (!isJsonObject(signatures) || !Object.values(signatures).every(isJsonObject)) {
    return yield* new InvalidParam({ error: `${name}: signatures: expected an object of objects` })
  }
  return {
    keys: yield* canonicalKey(name, keys),
    signatures: yield* canonicalKey(`${name}: signatures`, signatures)
  } satisfies SignedKeys
})

/** The keys by `algorithm:key_id`. Errors: M_INVALID_PARAM, M_TOO_LARGE. */
const readPrekeys = Effect.fnUntraced(function* (name: string, given: JsonObject | undefined, most: number) {
  const entries = Object.entries(given ?? {})
  if (entries.length > most) return yield* new TooLarge({ error: `${name}: at most ${most} keys` })
  const keys: Array<PrekeyUpload> = []
  for (const [id, value] of entries) {
    const match = id.isWellFormed() ? keyNamePattern.exec(id) : null
    if (match === null) return yield* new InvalidParam({ error: `${name}: expected <algorithm>:<key_id> as keys` })
    if (typeof value !== "string" && !isJsonObject(value)) {
      return yield* new InvalidParam({ error: `${name}: ${id}: expected a string or an object` })
    }
    keys.push({
      algorithm: match[1]!,
      keyId: match[2]!,
      key: yield* canonicalKey(`${name}: ${id}`, value, maxPrekeyBytes)
    })
  }
  return keys
})

/** Errors: M_TOO_LARGE for too many claims in one request. */
export const checkClaims = (claims: ReadonlyArray<KeyClaim>): Effect.Effect<void, TooLarge> =>
  claims.length > maxClaims
    ? Effect.fail(new TooLarge({ error: `one_time_keys: at most ${maxClaims} keys` }))
    : Effect.void

/** JSON text of an object with these members, which are JSON text themselves. */
export const objectText = (members: Iterable<readonly [string, string]>): string =>
  `{${Array.from(members, ([key, text]) => `${JSON.stringify(key)}:${text}`).join(",")}}`

/** A signed object as JSON text, with `more` at its end. */
export const withSignatures = ({ keys, signatures }: SignedKeys, more = ""): string =>
  `${keys === "{}" ? "{" : `${keys.slice(0, -1)},`}"signatures":${signatures}${more}}`

/** Keys as they are handed out: JSON text. */
const toText = (stored: StoredDeviceKeys): string =>
  withSignatures(stored, `,"unsigned":${stored.name === undefined ? "{}" : `{"device_display_name":${stored.name}}`}`)

/** Keys by user and device, as JSON text. */
const deviceKeysText = (
  userIds: ReadonlyArray<UserId>,
  stored: ReadonlyArray<StoredDeviceKeys>
): ReadonlyMap<UserId, string> => {
  const byUser = Map.groupBy(stored, ({ userId }) => userId)
  return new Map(
    userIds.map((userId) => [
      userId,
      objectText((byUser.get(userId) ?? []).map((device) => [device.deviceId, toText(device)] as const))
    ])
  )
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* DeviceKeyStore
  const lists = yield* DeviceListStore
  const peers = yield* Peers

  const isOurs = (userId: UserId) => serverNameOf(userId) === serverName

  const readDevice = Effect.fnUntraced(function* ({ deviceId, userId }: Session, given: JsonObject | undefined) {
    if (given === undefined) return undefined
    if (!isJsonObject(given.keys) || !Array.isArray(given.algorithms)) {
      return yield* new BadJson({ error: "device_keys: expected algorithms and keys" })
    }
    if (given.user_id !== userId || given.device_id !== deviceId) {
      return yield* new InvalidParam({
        error: "device_keys: user_id and device_id must be those of the session"
      })
    }
    return yield* splitSignatures("device_keys", given)
  })

  const upload = Effect.fn("DeviceKeys.upload")(function* (
    session: Session,
    request: KeyUploadRequest
  ): Effect.fn.Return<PrekeyCounts, MatrixError> {
    const device = yield* readDevice(session, request.device_keys)
    const oneTime = yield* readPrekeys("one_time_keys", request.one_time_keys, maxOneTimeKeys)
    const fallback = yield* readPrekeys("fallback_keys", request.fallback_keys, maxFallbackKeys)
    const algorithms = new Set(fallback.map(({ algorithm }) => algorithm))
    if (algorithms.size < fallback.length) {
      return yield* new InvalidParam({ error: "fallback_keys: one key for each algorithm" })
    }
    const { deviceId, userId } = session
    const now = yield* Clock.currentTimeMillis
    return yield* store.upload({ userId, deviceId, device, oneTime, fallback }, now, maxOneTimeKeys).pipe(
      Effect.mapError(({ keyId, reason }): MatrixError => {
        if (reason === "different key")
          return new InvalidParam({ error: `one_time_keys: a different key is stored as ${keyId}` })
        if (reason === "no device") return new InvalidParam({ error: "The access token has no device" })
        return new UserLimitExceeded({ error: `At most ${maxOneTimeKeys} one-time keys of a device can wait` })
      }),
      Effect.tap(() => (device === undefined ? Effect.void : peers.wakeForEdus))
    )
  })

  const query = Effect.fn("DeviceKeys.query")(function* (
    wanted: ReadonlyMap<UserId, ReadonlyArray<string>>
  ): Effect.fn.Return<ReadonlyMap<UserId, string>, MatrixError> {
    if (wanted.size > maxQueriedUsers)
      return yield* new TooLarge({ error: `device_keys: at most ${maxQueriedUsers} users` })
    const userIds = [...wanted.keys()].filter(isOurs)
    const stored = yield* store.query(userIds)
    const isWanted = ({ deviceId, userId }: StoredDeviceKeys) => {
      const devices = wanted.get(userId) ?? []
      return devices.length === 0 || devices.includes(deviceId)
    }
    return deviceKeysText(userIds, stored.filter(isWanted))
  })

  const claim = Effect.fn("DeviceKeys.claim")(function* (
    claims: ReadonlyArray<KeyClaim>
  ): Effect.fn.Return<string, MatrixError> {
    yield* checkClaims(claims)
    const ours = claims.filter(({ userId }) => isOurs(userId))
    const claimed = ours.length === 0 ? [] : yield* store.claim(ours, yield* Clock.currentTimeMillis)
    const byUser = Map.groupBy(claimed, ({ userId }) => userId)
    return objectText(
      [...byUser].map(([userId, keys]) => {
        const devices = keys.map(
          ({ algorithm, deviceId, key, keyId }) =>
            [deviceId, objectText([[`${algorithm}:${keyId}`, key] as const])] as const
        )
        return [userId, objectText(devices)] as const
      })
    )
  })

  const devicesOf = Effect.fn("DeviceKeys.devicesOf")(function* (userId: UserId) {
    const streamId = yield* lists.lastUpdate(userId)
    const stored = yield* store.query([userId])
    const devices = stored.map((device) =>
      objectText([
        ["device_id", JSON.stringify(device.deviceId)],
        ["keys", withSignatures(device)],
        ...(device.name === undefined ? [] : [["device_display_name", device.name] as const])
      ])
    )
    return { streamId, devices: `[${devices.join(",")}]` }
  })

  return DeviceKeys.of({
    devicesOf,
    changed: peers.wakeForEdus,
    upload,
    counts: ({ deviceId, userId }) => store.counts(userId, deviceId),
    query,
    claim
  })
})

/** Keys of devices: upload, query, claim. */
export class DeviceKeys extends Context.Service<
  DeviceKeys,
  {
    /**
     * Stores keys of the session's device, all or none. Errors: M_INVALID_PARAM for keys of another device, or another key
     * under a known ID; M_TOO_LARGE; M_USER_LIMIT_EXCEEDED.
     */
    readonly upload: (session: Session, request: KeyUploadRequest) => Effect.Effect<PrekeyCounts, MatrixError>
    /** A device was renamed or deleted: notifies other servers at once. */
    readonly changed: Effect.Effect<void>
    /** How many keys of the session's device can be claimed. */
    readonly counts: (session: Session) => Effect.Effect<PrekeyCounts>
    /** The devices of a user of ours, for other servers: a JSON array as text, and the number of the last change. */
    readonly devicesOf: (userId: UserId) => Effect.Effect<{ readonly devices: string; readonly streamId: number }>
    /**
     * The keys of devices of our users: for each user the JSON text of an object by device ID. An empty list wants all
     * devices. Errors: M_TOO_LARGE.
     */
    readonly query: (
      wanted: ReadonlyMap<UserId, ReadonlyArray<string>>
    ) => Effect.Effect<ReadonlyMap<UserId, string>, MatrixError>
    /** A key of each device of ours that has one: JSON text, by user and device. Errors: M_TOO_LARGE. */
    readonly claim: (claims: ReadonlyArray<KeyClaim>) => Effect.Effect<string, MatrixError>
  }
>()("greenroom/actors/DeviceKeys") {
  static readonly layer = Layer.effect(DeviceKeys, make)
}
