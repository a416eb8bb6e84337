/**
 * The object that a server publishes of its keys: ours, and reading those of others.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import {
  keyText,
  maxKeys,
  OldVerifyKey,
  ReceivedServerKeys,
  VerifyKey
} from "@greenroom/protocol/federation/ServerKeys"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import {
  decodeBase64,
  encodeBase64,
  exportVerifyKey,
  importVerifyKey,
  isKeyId,
  type SigningKey,
  signJson,
  verifyJson
} from "@greenroom/room/Signing"
import type { PublishedRemoteKey } from "@greenroom/store/RemoteKeyStore"
import type { PublishedKey } from "@greenroom/store/SigningKeys"
import { Option, Result, Schema } from "effect"

/** How long others may believe our keys, in ms: a rotation has reached everyone after it. */
const ourLifetime = 86_400_000

/**
 * The nodes of this server may sign with a replaced key for a minute, and their clocks differ. Such signatures are valid.
 */
const rotationGrace = 120_000

/** The longest that a key of another server is believed without asking again, in ms: 7 days. */
const longestLifetime = 7 * 86_400_000

/** The shortest, in ms, so that other servers cannot make this one ask all the time. */
const shortestLifetime = 120_000

/** Our key object at `now`, signed with the current key. */
export const makeKeyObject = (
  serverName: ServerName,
  current: SigningKey,
  published: ReadonlyArray<Pick<PublishedKey, "keyId" | "publicKey" | "expiredAt">>,
  now: number
): JsonObject => {
  const verify: Record<string, Json> = {}
  const old: Record<string, Json> = {}
  for (const { expiredAt, keyId, publicKey } of published) {
    const key = encodeBase64(exportVerifyKey(publicKey))
    if (expiredAt === undefined || keyId === current.keyId) verify[keyId] = { key }
    else old[keyId] = { expired_ts: expiredAt + rotationGrace, key }
  }
  // In the order of canonical JSON: there are readers that verify the body as it came, without its signatures.
  const object = {
    old_verify_keys: old,
    server_name: serverName,
    valid_until_ts: now + ourLifetime,
    verify_keys: verify
  }
  return Result.getOrThrow(signJson(object, current))
}

const decode = Schema.decodeUnknownResult(ReceivedServerKeys)
const decodeKey = Schema.decodeUnknownOption(VerifyKey)
const decodeOldKey = Schema.decodeUnknownOption(OldVerifyKey)

/** A key that an object states; undefined if it is malformed, or of an algorithm other than Ed25519. */
const readKey = (keyId: string, text: string | undefined) => {
  const bytes = text !== undefined && isKeyId(keyId) ? decodeBase64(text) : undefined
  return bytes === undefined ? undefined : Result.getOrUndefined(importVerifyKey(bytes))
}

/** The keys that are not current any more, those that ended last first. */
const readOldKeys = (old: { readonly [keyId: string]: unknown }) =>
  Object.entries(old)
    .flatMap(([keyId, stated]) => {
      const oldKey = Option.getOrUndefined(decodeOldKey(stated))
      const publicKey = readKey(keyId, oldKey?.key)
      return oldKey === undefined || publicKey === undefined ? [] : [{ keyId, publicKey, expiredAt: oldKey.expired_ts }]
    })
    .sort((a, b) => b.expiredAt - a.expiredAt)
    .slice(0, maxKeys)

/**
 * The keys of an object of `serverName`, or the fault of the object. It may have expired (`validUntil` is over then): its
 * keys are valid for earlier signatures. Keys that it has not signed are left out, and those that cannot be read.
 */
export const readKeyObject = (
  value: unknown,
  serverName: ServerName,
  now: number,
  isVouched = false
): Result.Result<{ readonly keys: ReadonlyArray<PublishedRemoteKey>; readonly validUntil: number }, string> => {
  const decoded = decode(value)
  if (!isJsonObject(value) || Result.isFailure(decoded)) return Result.fail("the key object is malformed")
  const { old_verify_keys: old = {}, server_name: name, valid_until_ts: statedUntil, verify_keys } = decoded.success
  if (name !== serverName) return Result.fail(`the key object is of ${name}`)
  const soonest = isVouched || statedUntil <= now ? statedUntil : now + shortestLifetime
  const validUntil = Math.min(Math.max(statedUntil, soonest), now + longestLifetime)
  const keys: Array<PublishedRemoteKey> = []
  for (const [keyId, stated] of Object.entries(verify_keys).slice(0, maxKeys)) {
    const publicKey = readKey(keyId, Option.getOrUndefined(Option.map(decodeKey(stated), keyText)))
    if (publicKey === undefined) continue
    if (Result.isFailure(verifyJson(value, serverName, new Map([[keyId, publicKey]])))) continue
    keys.push({ keyId, publicKey, validUntil, expiredAt: undefined })
  }
  if (keys.length === 0) return Result.fail("the key object is not signed by a key in it")
  for (const { expiredAt, keyId, publicKey } of readOldKeys(old)) {
    if (keys.some((entry) => entry.keyId === keyId)) continue
    keys.push({ keyId, publicKey, validUntil, expiredAt: Math.min(expiredAt, now) })
  }
  return Result.succeed({ keys, validUntil: statedUntil })
}
