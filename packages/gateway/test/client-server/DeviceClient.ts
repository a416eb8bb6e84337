/**
 * Devices of users with end-to-end encryption, for tests.
 */
import { generateKeyPairSync, sign as sign_ } from "node:crypto"
import { encode } from "@greenroom/room/CanonicalJson"
import { Effect, Result } from "effect"
import { as, inPath, logIn, register, type TestUser } from "../TestGateway.ts"

export interface Device extends TestUser {
  readonly device: string
}

interface ToDeviceEvent {
  readonly sender: string
  readonly type: string
  readonly content: { readonly n: number }
}

export interface SyncAnswer {
  readonly next_batch: string
  readonly rooms?: { readonly join?: { readonly [roomId: string]: unknown } }
  readonly to_device: { readonly events: ReadonlyArray<ToDeviceEvent> }
  readonly device_lists?: { readonly changed: ReadonlyArray<string>; readonly left: ReadonlyArray<string> }
  readonly device_one_time_keys_count: { readonly [algorithm: string]: number }
  readonly device_unused_fallback_key_types: ReadonlyArray<string>
}

/** Logs a user in on a device. */
export const openDevice = (name: string, device?: string) =>
  Effect.map(
    logIn(name, undefined, { device_id: device }),
    ({ body }) => ({ id: body.user_id, token: body.access_token, device: body.device_id }) as Device
  )

/** A new user, and a device of theirs. */
export const registerDevice = (name: string) => Effect.andThen(register(name), openDevice(name))

export const sync = (user: TestUser, since?: string, timeout = 0) =>
  Effect.map(
    as(user)("GET", `/v3/sync?timeout=${timeout}${since === undefined ? "" : `&since=${inPath(since)}`}`),
    ({ body }) => body as unknown as SyncAnswer
  )

/** Repeats /sync until device lists have changed since a token: the server may not have read the log up to the change yet. */
export const listsSince = (user: TestUser, since: string) =>
  Effect.map(
    Effect.repeat(sync(user, since), { until: ({ device_lists }) => (device_lists?.changed?.length ?? 0) > 0 }),
    ({ device_lists }) => device_lists
  )

export const deviceKeys = ({ device, id }: Device, secret = "one") => ({
  user_id: id,
  device_id: device,
  algorithms: ["m.megolm.v1.aes-sha2"],
  keys: { [`ed25519:${device}`]: secret },
  signatures: { [id]: { [`ed25519:${device}`]: "signed" } }
})

export const oneTime = (...numbers: ReadonlyArray<number>) =>
  Object.fromEntries(numbers.map((number) => [`signed_curve25519:k${number}`, { key: `one-time ${number}` }]))

export const upload = (user: Device, keys: object) => as(user)("POST", "/v3/keys/upload", keys)

export const query = (user: TestUser, ...users: ReadonlyArray<TestUser>) =>
  Effect.map(
    as(user)("POST", "/v3/keys/query", { device_keys: Object.fromEntries(users.map(({ id }) => [id, []])) }),
    ({ body }) => body.device_keys as Record<string, Record<string, { readonly [key: string]: unknown }>>
  )

/** A new key of a user: a cross-signing key, or that of the device with the name. */
const signingKey = (userId: string, device?: string) => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  const text = publicKey.export({ format: "der", type: "spki" }).subarray(12).toString("base64").replace(/=+$/, "")
  const keyId = `ed25519:${device ?? text}`
  const sign = <A extends object>(object: A) => {
    const bytes = Buffer.from(Result.getOrThrow(encode(object as never)))
    const signature = sign_(null, bytes, privateKey).toString("base64").replace(/=+$/, "")
    return { ...object, signatures: { [userId]: { [keyId]: signature } } }
  }
  return { publicKey: text, keyId, sign }
}

/** A device with a key that signs. */
export const signingDevice = (of: Device) => {
  const { keyId, publicKey, sign } = signingKey(of.id, of.device)
  return { keys: { ...deviceKeys(of), keys: { [keyId]: publicKey } }, sign }
}

/** New cross-signing keys of a user, and the body of their upload. */
export const crossSigningKeys = ({ id }: Pick<TestUser, "id">) => {
  const [master, selfSigning, userSigning] = [signingKey(id), signingKey(id), signingKey(id)]
  const key = (usage: string, { keyId, publicKey }: ReturnType<typeof signingKey>) => ({
    user_id: id,
    usage: [usage],
    keys: { [keyId]: publicKey }
  })
  return {
    master,
    selfSigning,
    userSigning,
    upload: {
      master_key: key("master", master),
      self_signing_key: master.sign(key("self_signing", selfSigning)),
      user_signing_key: master.sign(key("user_signing", userSigning))
    }
  }
}

/** The numbers in the to-device messages of an answer. */
export const numbers = ({ to_device }: SyncAnswer) => to_device.events.map(({ content }) => content.n)
