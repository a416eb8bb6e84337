/**
 * The devices of users of other servers: which keys of an answer are taken, and how an update changes a list.
 *
 * A server may give anything for its own users. Keys that name another user or device are refused, and so are signatures
 * that are wrong; keys without a signature are left to the clients, which trust no server. Lists are bounded.
 *
 * Source: "Device Management" and "End-to-End Encryption" of the server-server specification.
 */
import type { DeviceUpdate, KeyUpdateEdu } from "@greenroom/protocol/federation/Edu"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { encode } from "@greenroom/room/CanonicalJson"
import { checkSignature, decodeBase64, importVerifyKey } from "@greenroom/room/Signing"
import type { ChangedList, ChangingList, RemoteDevices } from "@greenroom/store/RemoteDeviceListStore"
import { Result } from "effect"

/**
 * Bounds of the kept devices of a user: their number, and the bytes of a device and of all devices. The first ones are
 * kept.
 */
const maxDevices = 1_000
const maxDeviceBytes = 65_536
const maxListBytes = 2 * 1024 * 1024
/** The most characters of the name of a device. */
const maxNameLength = 1_000
/** How many updates of a user are remembered. */
const rememberedStreams = 50

type Given = ReadonlyArray<readonly [deviceId: string, keys: string]>

const toKey = (base64: Json | undefined) => {
  const bytes = typeof base64 === "string" ? decodeBase64(base64) : undefined
  const key = bytes === undefined ? undefined : importVerifyKey(bytes)
  return key !== undefined && Result.isSuccess(key) ? key.success : undefined
}

/** Whether the signature of the user by a key is right. Undefined if there is no such signature or key. */
const isSigned = (userId: string, signed: JsonObject, keyId: string, base64: Json | undefined): boolean | undefined => {
  const { signatures, unsigned: _, ...rest } = signed
  const ofUser = isJsonObject(signatures) && Object.hasOwn(signatures, userId) ? signatures[userId] : undefined
  if (!isJsonObject(ofUser) || !Object.hasOwn(ofUser, keyId)) return undefined
  const key = toKey(base64)
  if (key === undefined) return undefined
  const bytes = encode(rest)
  if (Result.isFailure(bytes)) return false
  return (
    checkSignature(Buffer.from(bytes.success), signatures, userId as ServerName, new Map([[keyId, key]])) === undefined
  )
}

const memberOf = (object: Json | undefined, name: string): Json | undefined =>
  isJsonObject(object) && Object.hasOwn(object, name) ? object[name] : undefined

/** The keys of a device as clients get them: canonical JSON. Undefined if they are not its keys. */
export const readDevice = (userId: string, deviceId: string, given: Json | undefined, name: Json | undefined) => {
  if (!isJsonObject(given)) return undefined
  const { unsigned: _, ...keys } = given
  if ((keys.user_id ?? userId) !== userId || (keys.device_id ?? deviceId) !== deviceId) return undefined
  const own = `ed25519:${deviceId}`
  if (isSigned(userId, keys, own, memberOf(keys.keys, own)) === false) return undefined
  const unsigned = typeof name === "string" ? { device_display_name: name.slice(0, maxNameLength).toWellFormed() } : {}
  const encoded = encode({ ...keys, unsigned })
  return Result.isSuccess(encoded) && encoded.success.length <= maxDeviceBytes ? encoded.success : undefined
}

/** The ID and public key of a cross-signing key. */
const publicKeyOf = (key: JsonObject) => {
  const entries = Object.entries(isJsonObject(key.keys) ? key.keys : {})
  const [keyId, publicKey] = entries[0] ?? []
  return entries.length === 1 && keyId?.startsWith("ed25519:") ? ([keyId, publicKey] as const) : undefined
}

const isSigningKey = (userId: string, usage: string, key: Json | undefined): key is JsonObject =>
  isJsonObject(key) &&
  key.user_id === userId &&
  Array.isArray(key.usage) &&
  key.usage.includes(usage) &&
  publicKeyOf(key) !== undefined

const signingKeyText = ({ unsigned: _, ...key }: JsonObject): string | undefined => {
  const encoded = encode(key)
  return Result.isSuccess(encoded) && encoded.success.length <= maxDeviceBytes ? encoded.success : undefined
}

/** The cross-signing keys of a user. A self-signing key counts where the master key has signed it. */
const readSigningKeys = (userId: string, master: Json | undefined, selfSigning: Json | undefined) => {
  const none = { masterKey: undefined, selfSigningKey: undefined }
  if (!isSigningKey(userId, "master", master)) return none
  const masterKey = signingKeyText(master)
  if (masterKey === undefined || !isSigningKey(userId, "self_signing", selfSigning)) return { ...none, masterKey }
  const isOwn = isSigned(userId, selfSigning, ...publicKeyOf(master)!) === true
  return { masterKey, selfSigningKey: isOwn ? signingKeyText(selfSigning) : undefined }
}

/** The list as JSON text, in the order of the device IDs. */
const toDevices = (given: Given): string => {
  const members: Array<string> = []
  let bytes = 0
  for (const [deviceId, keys] of given) {
    const member = `${JSON.stringify(deviceId)}:${keys}`
    bytes += member.length
    if (members.length === maxDevices || bytes > maxListBytes) break
    members.push(member)
  }
  return `{${members.sort().join(",")}}`
}

const isDeviceId = (deviceId: Json | undefined): deviceId is string => typeof deviceId === "string" && deviceId !== ""

/** The acceptable ones of the devices, in steps: each may cost a signature. */
function* devicesText(
  userId: UserId,
  given: Iterable<readonly [Json | undefined, Json | undefined, Json | undefined]>
) {
  const devices: Array<Given[number]> = []
  for (const [deviceId, device, name] of given) {
    yield
    const keys = isDeviceId(deviceId) ? readDevice(userId, deviceId, device, name) : undefined
    if (keys !== undefined) devices.push([deviceId as string, keys])
    if (devices.length > maxDevices) break
  }
  return toDevices(devices)
}

/** An answer to `GET /user/devices/{userId}`, in steps. Undefined if it is none. */
export function* readUserDevices(userId: UserId, answer: JsonObject) {
  const { devices, master_key, self_signing_key, stream_id, user_id } = answer
  if (user_id !== userId || !Array.isArray(devices) || !Number.isSafeInteger(stream_id)) return undefined
  const given = devices
    .filter(isJsonObject)
    .map(({ device_display_name, device_id, keys }) => [device_id, keys, device_display_name] as const)
  return {
    devices: yield* devicesText(userId, given),
    ...readSigningKeys(userId, master_key, self_signing_key),
    streamId: stream_id as number
  }
}

/** One user of an answer to `POST /user/keys/query`, in steps. */
export function* readQueriedUser(userId: UserId, answer: JsonObject): Generator<undefined, RemoteDevices> {
  const devices = memberOf(answer.device_keys, userId)
  const given = Object.entries(isJsonObject(devices) ? devices : {}).map(
    ([deviceId, keys]) => [deviceId, keys, memberOf(memberOf(keys, "unsigned"), "device_display_name")] as const
  )
  return {
    devices: yield* devicesText(userId, given),
    ...readSigningKeys(userId, memberOf(answer.master_keys, userId), memberOf(answer.self_signing_keys, userId))
  }
}

// Updates

const newest = (streams: ReadonlyArray<number>): number => streams.reduce((a, b) => Math.max(a, b), -Infinity)

/** The devices with the update applied: an object by device ID whose values are JSON. */
const withDevice = (userId: UserId, devices: Map<string, Json>, update: DeviceUpdate): void => {
  const { deviceId, displayName, isDeleted, keys } = update
  const text = isDeleted ? undefined : readDevice(userId, deviceId, keys, displayName)
  if (text !== undefined) devices.set(deviceId, JSON.parse(text) as Json)
  else if (isDeleted || keys === undefined) devices.delete(deviceId)
}

/**
 * Applies updates of one user in the order in which they came. The list has a gap after an update whose predecessors were not
 * known; its content is stored nevertheless, unless it is older than the stored one.
 */
export const applyUpdates =
  (userId: UserId, edus: ReadonlyArray<KeyUpdateEdu>) =>
  ({ keys, streams: known }: ChangingList): ChangedList => {
    const streams = [...known]
    let isGap = false
    let signing = { masterKey: keys?.masterKey, selfSigningKey: keys?.selfSigningKey }
    let devices: Map<string, Json> | undefined
    for (const { content, edu_type } of edus) {
      if (edu_type === "m.signing_key_update") {
        const former = signing.selfSigningKey === undefined ? undefined : (JSON.parse(signing.selfSigningKey) as Json)
        const read = readSigningKeys(userId, content.master, content.selfSigning ?? former)
        if (read.masterKey === undefined) isGap = true
        else signing = read
        continue
      }
      const { update } = content
      if (update !== undefined && streams.includes(update.streamId)) continue
      if (
        update === undefined ||
        update.previousIds.length === 0 ||
        !update.previousIds.every((id) => streams.includes(id))
      ) {
        isGap = true
      }
      if (update === undefined) continue
      if (update.streamId > newest(streams)) {
        devices ??= new Map(Object.entries(JSON.parse(keys?.devices ?? "{}") as JsonObject))
        withDevice(userId, devices, update)
      }
      streams.push(update.streamId)
    }
    const changed = devices === undefined ? keys?.devices : toDevices(textsOf(devices))
    return {
      // A list that was never fetched stays unknown: an update of one device does not contain the others.
      keys: keys === undefined ? undefined : { devices: changed ?? keys.devices, ...signing },
      streams: streams.slice(-rememberedStreams),
      isGap
    }
  }

const textsOf = (devices: ReadonlyMap<string, Json>): Given =>
  Array.from(devices, ([deviceId, keys]) => [deviceId, Result.getOrThrow(encode(keys))])
