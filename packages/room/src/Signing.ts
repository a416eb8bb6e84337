/**
 * Ed25519 signatures of JSON objects: over their canonical JSON without `signatures` and `unsigned`, kept in
 * `signatures` by server name and key ID, so that several servers can sign the same object. Base64 is unpadded.
 *
 * Keys are stored as 32 raw bytes. Everything is synchronous.
 *
 * Source: "Security" of the draft, "Signing JSON" of the appendices of the draft.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto"
import type { Signatures } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type CanonicalJsonError, encodeBytes } from "./CanonicalJson.ts"
import { libsodium, libsodiumFile } from "./internal/libsodium.ts"

/** Our key: `keyId` is `ed25519:` and a name. */
export interface SigningKey {
  readonly serverName: ServerName
  readonly keyId: string
  readonly secretKey: KeyObject
}

/** The public keys of a server, by key ID. */
export type VerifyKeys = ReadonlyMap<string, KeyObject>

/** A signature is absent or wrong. `reason` says which. */
export class SignatureError extends Schema.TaggedError<SignatureError>()("SignatureError", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** Bytes that are not a key. */
export class KeyError extends Schema.TaggedError<KeyError>()("KeyError", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

const keyIdPattern = /^ed25519:[A-Za-z0-9_.+/=-]{1,100}$/

/** True for `ed25519:` and a name. */
export const isKeyId = (text: string): boolean => keyIdPattern.test(text)

/** A new key of the server. `keyId` is `ed25519:` and a name that this server did not use before. */
export const generateSigningKey = (serverName: ServerName, keyId: string): SigningKey => ({
  serverName,
  keyId,
  secretKey: generateKeyPairSync("ed25519").privateKey
})

/** The bytes before the 32 secret bytes in the PKCS #8 form of an Ed25519 key (RFC 8410). */
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex")

/** The bytes before the 32 public bytes in the SubjectPublicKeyInfo form (RFC 8410). */
const spkiPrefix = Buffer.from("302a300506032b6570032100", "hex")

/** The key whose 32 secret bytes were stored. */
export const importSigningKey = (
  serverName: ServerName,
  keyId: string,
  secret: Uint8Array
): Result.Result<SigningKey, KeyError> =>
  secret.length === 32
    ? Result.succeed({
        serverName,
        keyId,
        secretKey: createPrivateKey({ key: Buffer.concat([pkcs8Prefix, secret]), format: "der", type: "pkcs8" })
      })
    : Result.fail(new KeyError({ reason: `a secret key has 32 bytes, not ${secret.length}` }))

/** The 32 secret bytes. Never log them. */
export const exportSigningKey = (key: SigningKey): Uint8Array =>
  key.secretKey.export({ format: "der", type: "pkcs8" }).subarray(pkcs8Prefix.length)

/** The public half of our key. */
export const verifyKeyOf = (key: SigningKey): KeyObject => createPublicKey(key.secretKey)

/** The public key that has these 32 bytes. */
export const importVerifyKey = (bytes: Uint8Array): Result.Result<KeyObject, KeyError> => {
  if (bytes.length !== 32) return Result.fail(new KeyError({ reason: `a key has 32 bytes, not ${bytes.length}` }))
  return Result.try({
    try: () => createPublicKey({ key: Buffer.concat([spkiPrefix, bytes]), format: "der", type: "spki" }),
    catch: () => new KeyError({ reason: "not an Ed25519 public key" })
  })
}

/** The file of the module that verifies signatures, for threads that check many: `crypto_sign_verify_detached` of it. */
export const verifierFile = libsodiumFile

/** The 32 bytes of a public key. */
export const exportVerifyKey = (key: KeyObject): Uint8Array =>
  key.export({ format: "der", type: "spki" }).subarray(spkiPrefix.length)

/** Base64 without padding. */
export const encodeBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64").replace(/=+$/, "")

/** Reads base64 with or without padding; undefined for anything else. */
export const decodeBase64 = (text: string): Uint8Array | undefined =>
  /^[A-Za-z0-9+/]*={0,2}$/.test(text) ? Buffer.from(text, "base64") : undefined

/** The bytes of keys in use: exporting them takes longer than looking them up. */
const exported = new WeakMap<KeyObject, Uint8Array>()

const bytesOf = (key: KeyObject, make: () => Uint8Array): Uint8Array => {
  const known = exported.get(key)
  if (known !== undefined) return known
  const bytes = make()
  exported.set(key, bytes)
  return bytes
}

/** The 32 bytes of a public key that is used often. */
export const verifyKeyBytes = (key: KeyObject): Uint8Array => bytesOf(key, () => exportVerifyKey(key))

/** Secret and public bytes, one after the other. */
const pairOf = (key: SigningKey) => Buffer.concat([exportSigningKey(key), exportVerifyKey(verifyKeyOf(key))])

/** The signature of the bytes in base64. */
export const signBytes = (bytes: Uint8Array, key: SigningKey): string => {
  const signature = new Uint8Array(64)
  libsodium().crypto_sign_detached(
    signature,
    bytes,
    bytesOf(key.secretKey, () => pairOf(key))
  )
  return encodeBase64(signature)
}

/**
 * True if the 64 bytes are a signature of these bytes by the key. By the rules of libsodium, as most home servers verify: keys
 * of small order sign nothing.
 */
export const verifyBytes = (bytes: Uint8Array, signature: Uint8Array, key: KeyObject): boolean =>
  signature.length === 64 && libsodium().crypto_sign_verify_detached(signature, bytes, verifyKeyBytes(key))

/** Adds a signature to those that are there. */
export const addSignature = (signatures: Signatures, key: SigningKey, signature: string): Signatures => ({
  ...signatures,
  [key.serverName]: { ...signatures[key.serverName], [key.keyId]: signature }
})

/** Checks a signature of 64 bytes, as `verifyBytes` does. */
export type SignatureCheck = typeof verifyBytes

/**
 * Undefined if one of the server's signatures is that of a key in `keys` over the bytes, else the fault. `signatures` is as
 * the other server sent it.
 */
export const checkSignature = (
  bytes: Uint8Array,
  signatures: unknown,
  serverName: ServerName,
  keys: VerifyKeys,
  isRight: SignatureCheck = verifyBytes
): SignatureError | undefined => {
  const ofServer =
    isJsonObject(signatures) && Object.hasOwn(signatures, serverName) ? signatures[serverName] : undefined
  if (!isJsonObject(ofServer)) return new SignatureError({ reason: `no signature of ${serverName}` })
  let reason = `no signature of ${serverName} by a known key`
  for (const [keyId, key] of keys) {
    const signature = Object.hasOwn(ofServer, keyId) ? ofServer[keyId] : undefined
    if (typeof signature !== "string") continue
    const decoded = decodeBase64(signature)
    if (decoded?.length === 64 && isRight(bytes, decoded, key)) return undefined
    reason = `wrong signature of ${serverName} by ${keyId}`
  }
  return new SignatureError({ reason })
}

const signedBytes = (object: JsonObject): Result.Result<Uint8Array, CanonicalJsonError> => {
  const { signatures: _, unsigned: __, ...rest } = object
  return encodeBytes(rest)
}

/** The object with our signature added to `signatures`. */
export const signJson = (object: JsonObject, key: SigningKey): Result.Result<JsonObject, CanonicalJsonError> =>
  Result.map(signedBytes(object), (bytes) => ({
    ...object,
    signatures: addSignature(
      isJsonObject(object.signatures) ? (object.signatures as never) : {},
      key,
      signBytes(bytes, key)
    )
  }))

/** Checks that the server signed the object by one of its keys. */
export const verifyJson = (
  object: JsonObject,
  serverName: ServerName,
  keys: VerifyKeys
): Result.Result<void, SignatureError | CanonicalJsonError> =>
  Result.flatMap(signedBytes(object), (bytes) => {
    const problem = checkSignature(bytes, object.signatures, serverName, keys)
    return problem === undefined ? Result.succeed(undefined) : Result.fail(problem)
  })
