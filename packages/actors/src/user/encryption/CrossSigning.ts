/**
 * Cross-signing: the keys of users that sign their devices and each other. Signatures by keys that this server has are
 * checked before they are stored.
 *
 * Source: "Cross-signing" of the client-server specification.
 */
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import {
  BadRequest,
  Forbidden,
  InvalidParam,
  InvalidSignature,
  type MatrixError,
  MissingParam,
  NotFound,
  TooLarge,
  toErrorBody,
  UserLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { checkSignature, decodeBase64, importVerifyKey } from "@greenroom/room/Signing"
import { AccountStore } from "@greenroom/store/AccountStore"
import { type CrossSigningKeys, CrossSigningStore, type KeyUsage, keyUsages } from "@greenroom/store/CrossSigningStore"
import { DeviceKeyStore, mergeSignatures, type SignedKeys } from "@greenroom/store/DeviceKeyStore"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { Context, Effect, Layer, Result } from "effect"
import { Peers } from "../../federation/Peers.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import { objectText, splitSignatures, withSignatures } from "./DeviceKeys.ts"

/** The most signed objects of one upload, and the most users that one user signs. */
const maxSignedObjects = 1_000
const maxSignedUsers = 10_000

/** `master_key`, `self_signing_key` and `user_signing_key` of an upload. */
export type CrossSigningUpload = { readonly [usage in `${KeyUsage}_key`]?: JsonObject | undefined }

/** The errors of signatures, by user and key. */
export interface RefusedSignatures {
  readonly [userId: string]: { readonly [keyId: string]: JsonObject }
}

/** The cross-signing part of the answer to a key query. Each value is the JSON text of an object by user ID. */
export interface CrossSigningTexts {
  readonly master_keys: string
  readonly self_signing_keys: string
  readonly user_signing_keys: string
}

interface PublicKey {
  /** `ed25519:` and a name. */
  readonly keyId: string
  /** Base64. */
  readonly publicKey: string
}

/** The one key of a cross-signing key. */
const publicKeyOf = (keys: Json | undefined): PublicKey | undefined => {
  const entries = Object.entries(isJsonObject(keys) ? keys : {})
  const [keyId, publicKey] = entries[0] ?? []
  return entries.length === 1 && keyId?.startsWith("ed25519:") && typeof publicKey === "string"
    ? { keyId, publicKey }
    : undefined
}

const storedKeyOf = (stored: SignedKeys | undefined): PublicKey | undefined =>
  stored === undefined ? undefined : publicKeyOf((JSON.parse(stored.keys) as JsonObject).keys)

/** Whether the object is signed by a key of the user. Errors: M_INVALID_SIGNATURE. */
const verify = Effect.fnUntraced(function* (name: string, signed: SignedKeys, userId: UserId, key: PublicKey) {
  const bytes = decodeBase64(key.publicKey)
  const imported = bytes === undefined ? undefined : importVerifyKey(bytes)
  if (imported === undefined || Result.isFailure(imported)) {
    return yield* new InvalidSignature({ error: `${name}: ${key.keyId} is not an Ed25519 key` })
  }
  const wrong = checkSignature(
    Buffer.from(signed.keys),
    JSON.parse(signed.signatures),
    userId as string as ServerName,
    new Map([[key.keyId, imported.success]])
  )
  if (wrong !== undefined) return yield* new InvalidSignature({ error: `${name}: ${wrong.reason}` })
})

/** A key as it is handed out: a master key need not be signed, and then has no `signatures`. */
const keyText = (key: SignedKeys): string => (key.signatures === "{}" ? key.keys : withSignatures(key))

/** The signature by one key alone: others of the object are not stored. */
const only = ({ keys, signatures }: SignedKeys, userId: UserId, { keyId }: PublicKey): SignedKeys => {
  const given = JSON.parse(signatures) as { readonly [user: string]: JsonObject }
  return { keys, signatures: JSON.stringify({ [userId]: { [keyId]: given[userId]?.[keyId] ?? "" } }) }
}

const make = Effect.gen(function* () {
  const store = yield* CrossSigningStore
  const devices = yield* DeviceKeyStore
  const accounts = yield* AccountStore
  const { serverName } = yield* HomeServerConfig
  const peers = yield* Peers
  const remoteLists = yield* RemoteDeviceListStore

  const keysOf = (userId: UserId): Effect.Effect<CrossSigningKeys> =>
    Effect.map(store.keys([userId]), (found) => found.get(userId) ?? {})

  // Uploading keys

  const readKey = Effect.fnUntraced(function* (userId: UserId, usage: KeyUsage, given: JsonObject) {
    const name = `${usage}_key`
    if (given.user_id !== userId) return yield* new InvalidParam({ error: `${name}: user_id must be ${userId}` })
    if (!Array.isArray(given.usage) || !given.usage.includes(usage)) {
      return yield* new InvalidParam({ error: `${name}: usage must have ${usage}` })
    }
    const key = publicKeyOf(given.keys)
    if (key === undefined || key.keyId !== `ed25519:${key.publicKey}`) {
      return yield* new InvalidParam({ error: `${name}: keys: expected one Ed25519 key, under its own name` })
    }
    return yield* splitSignatures(name, given)
  })

  const read = Effect.fnUntraced(function* (userId: UserId, upload: CrossSigningUpload, before: CrossSigningKeys) {
    const keys: { [usage in KeyUsage]?: SignedKeys } = {}
    for (const usage of keyUsages) {
      const given = upload[`${usage}_key`]
      if (given !== undefined) keys[usage] = yield* readKey(userId, usage, given)
    }
    if (Object.keys(keys).length === 0) return yield* new MissingParam({ error: "Missing parameters: master_key" })
    const master = storedKeyOf(keys.master ?? before.master)
    if (master === undefined) return yield* new MissingParam({ error: "There is no master key" })
    for (const usage of ["self_signing", "user_signing"] as const) {
      const key = keys[usage]
      if (key !== undefined) yield* verify(`${usage}_key`, key, userId, master)
    }
    return keys
  })

  /** Otherwise a device could be taken for a key of the user, and the other way round. Devices without keys may upload some later. */
  const checkNoDevice = Effect.fnUntraced(function* (userId: UserId, keys: CrossSigningKeys) {
    const names = new Set(keyUsages.flatMap((usage) => storedKeyOf(keys[usage])?.publicKey ?? []))
    if ((yield* accounts.devices(userId)).some(({ deviceId }) => names.has(deviceId))) {
      return yield* new Forbidden({ error: "A device of the user has the name of the key" })
    }
  })

  const upload = Effect.fn("CrossSigning.upload")(function* (
    { userId }: Session,
    given: CrossSigningUpload,
    mayReplace: boolean
  ): Effect.fn.Return<boolean, MatrixError> {
    const keys = yield* read(userId, given, yield* keysOf(userId))
    yield* checkNoDevice(userId, keys)
    const stored = yield* store.put(userId, keys, mayReplace)
    if (stored) yield* peers.wakeForEdus
    return stored
  })

  // Uploading signatures

  const isSame = (a: SignedKeys | undefined, b: SignedKeys): a is SignedKeys => a?.keys === b.keys

  const signDevice = Effect.fnUntraced(function* (userId: UserId, deviceId: string, signed: SignedKeys) {
    const selfSigning = storedKeyOf((yield* keysOf(userId)).self_signing)
    if (selfSigning === undefined) return yield* new NotFound({ error: "There is no self-signing key" })
    yield* verify(deviceId, signed, userId, selfSigning)
    if (!(yield* devices.addSignatures(userId, deviceId, only(signed, userId, selfSigning)))) {
      yield* new NotFound({ error: "There is no such key" })
    }
  })

  /** The master key is signed by devices of the user. */
  const signOwnMaster = Effect.fnUntraced(function* (userId: UserId, signed: SignedKeys) {
    const given = (JSON.parse(signed.signatures) as { readonly [user: string]: JsonObject })[userId] ?? {}
    const own = yield* devices.query([userId])
    const signers = own.flatMap(({ deviceId, keys }): ReadonlyArray<PublicKey> => {
      const keyId = `ed25519:${deviceId}`
      const { keys: ofDevice } = JSON.parse(keys) as { readonly keys?: JsonObject }
      const publicKey = ofDevice?.[keyId]
      return Object.hasOwn(given, keyId) && typeof publicKey === "string" ? [{ keyId, publicKey }] : []
    })
    if (signers.length === 0)
      return yield* new InvalidSignature({ error: "The signature of a device of the user is missing" })
    for (const signer of signers) {
      yield* verify("master", signed, userId, signer)
      yield* store.signOwnMaster(userId, only(signed, userId, signer))
    }
  })

  const signOwn = Effect.fnUntraced(function* (userId: UserId, keyId: string, signed: SignedKeys) {
    const { master } = yield* keysOf(userId)
    if (storedKeyOf(master)?.publicKey !== keyId) return yield* signDevice(userId, keyId, signed)
    if (!isSame(master, signed)) return yield* new BadRequest({ error: "The key differs from the stored master key" })
    return yield* signOwnMaster(userId, signed)
  })

  const masterKeyOf = Effect.fnUntraced(function* (userId: UserId) {
    if (serverNameOf(userId) === serverName) return (yield* keysOf(userId)).master
    const [known] = yield* remoteLists.read([userId])
    const masterKey = known?.keys?.masterKey
    return masterKey === undefined ? undefined : yield* splitSignatures("master_key", JSON.parse(masterKey))
  })

  const signOther = Effect.fnUntraced(function* (signer: UserId, userId: UserId, signed: SignedKeys) {
    const userSigning = storedKeyOf((yield* keysOf(signer)).user_signing)
    if (userSigning === undefined) return yield* new NotFound({ error: "There is no user-signing key" })
    const master = yield* masterKeyOf(userId)
    // Clients check the signed key of a user whose devices are not kept here.
    const isKnown = master !== undefined || serverNameOf(userId) === serverName
    if (isKnown && !isSame(master, signed)) return yield* new NotFound({ error: "The user has no such master key" })
    yield* verify(userId, signed, signer, userSigning)
    const signatures = only(signed, signer, userSigning).signatures
    if (yield* store.signOther(signer, userId, signatures, maxSignedUsers)) return
    yield* new UserLimitExceeded({ error: `A user signs at most ${maxSignedUsers} other users` })
  })

  const signKey = Effect.fnUntraced(function* (signer: UserId, userId: UserId, keyId: string, given: Json) {
    if (!isJsonObject(given))
      return yield* new InvalidParam({ error: `${keyId.slice(0, 255)}: expected a signed object` })
    const signed = yield* splitSignatures(keyId.slice(0, 255), given)
    yield* userId === signer ? signOwn(userId, keyId, signed) : signOther(signer, userId, signed)
  })

  const sign = Effect.fn("CrossSigning.sign")(function* (
    session: Session,
    given: ReadonlyMap<UserId, JsonObject>
  ): Effect.fn.Return<RefusedSignatures, MatrixError> {
    const objects = [...given].flatMap(([userId, keys]) =>
      Object.entries(keys).map(([keyId, signed]) => ({ userId, keyId, signed }))
    )
    if (objects.length > maxSignedObjects) {
      return yield* new TooLarge({ error: `At most ${maxSignedObjects} signed objects` })
    }
    const failures: Record<string, Record<string, JsonObject>> = {}
    for (const { keyId, signed, userId } of objects) {
      const failed = yield* Effect.result(signKey(session.userId, userId, keyId, signed))
      if (Result.isSuccess(failed)) continue
      failures[userId] = { ...failures[userId], [keyId]: toErrorBody(failed.failure as MatrixError) as never }
    }
    yield* peers.wakeForEdus
    return failures
  })

  // Queries

  const query = Effect.fn("CrossSigning.query")(function* (
    requester: UserId | undefined,
    userIds: ReadonlyArray<UserId>
  ) {
    const [keys, signed] = yield* Effect.all([
      store.keys(userIds),
      requester === undefined ? Effect.succeed(new Map<UserId, string>()) : store.signaturesBy(requester, userIds)
    ])
    const textsOf = (usage: KeyUsage, text: (userId: UserId, key: SignedKeys) => string) =>
      objectText(
        [...keys].flatMap(([userId, ofUser]) => {
          const key = ofUser[usage]
          return key === undefined ? [] : [[userId, text(userId, key)] as const]
        })
      )
    const withOwn = (userId: UserId, { keys, signatures }: SignedKeys) => {
      const own = signed.get(userId)
      return keyText({ keys, signatures: own === undefined ? signatures : mergeSignatures(signatures, own) })
    }
    return {
      master_keys: textsOf("master", withOwn),
      self_signing_keys: textsOf("self_signing", (_, key) => keyText(key)),
      user_signing_keys: objectText(
        requester === undefined || keys.get(requester)?.user_signing === undefined
          ? []
          : [[requester, keyText(keys.get(requester)!.user_signing!)] as const]
      )
    }
  })

  return CrossSigning.of({ upload, sign, query })
})

/** Cross-signing keys and signatures. */
export class CrossSigning extends Context.Service<
  CrossSigning,
  {
    /**
     * Stores cross-signing keys of the user. False if they would replace others, and the user has not shown again that it
     * is them (`mayReplace`). Errors: M_INVALID_PARAM, M_MISSING_PARAM without a master key, M_INVALID_SIGNATURE,
     * M_FORBIDDEN for a key with the name of a device.
     */
    readonly upload: (
      session: Session,
      keys: CrossSigningUpload,
      mayReplace: boolean
    ) => Effect.Effect<boolean, MatrixError>
    /** Stores signatures. Returns the errors of those that are refused, by user and key. Errors: M_TOO_LARGE. */
    readonly sign: (
      session: Session,
      signed: ReadonlyMap<UserId, JsonObject>
    ) => Effect.Effect<RefusedSignatures, MatrixError>
    /** The cross-signing keys of users of ours, as `requester` may see them; of none for another server. */
    readonly query: (requester: UserId | undefined, userIds: ReadonlyArray<UserId>) => Effect.Effect<CrossSigningTexts>
  }
>()("greenroom/actors/CrossSigning") {
  static readonly layer = Layer.effect(CrossSigning, make)
}
