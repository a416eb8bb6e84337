/**
 * Backups of room keys, which clients encrypt: the server can read none of them.
 *
 * Source: "Server-side key backups" of the client-server specification.
 */
import { isRoomId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  InvalidParam,
  type MatrixError,
  NotFound,
  TooLarge,
  UserLimitExceeded,
  WrongRoomKeysVersion
} from "@greenroom/protocol/MatrixError"
import { isStorable } from "@greenroom/protocol/Text"
import {
  type BackedUpKey,
  type BackupData,
  type BackupLimits,
  type KeyBackup,
  KeyBackupStore,
  type KeyCount,
  type KeySelection
} from "@greenroom/store/KeyBackupStore"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../../runtime/Session.ts"

/** The most versions of a user: older ones are deleted. */
const maxVersions = 20
/** A version must fit into one answer; keys of the usual size have 500 bytes. */
const limits: BackupLimits = { keys: 250_000, bytes: 120 * 1024 * 1024, bytesOfUser: 256 * 1024 * 1024 }
/** The most bytes of one key, and of the `auth_data` of a version. */
const maxKeyBytes = 16_384
const maxAuthDataBytes = 65_536

/** `algorithm` and `auth_data` of a version. */
export interface BackupDescription {
  readonly algorithm: string
  readonly auth_data: BackupData
}

/** The key of a session, as clients have it. */
export interface SessionKey {
  readonly first_message_index: number
  readonly forwarded_count: number
  readonly is_verified: boolean
  readonly session_data: BackupData
}

/** Keys by room and session. */
export interface RoomKeys {
  readonly rooms: { readonly [roomId: string]: { readonly sessions: { readonly [sessionId: string]: SessionKey } } }
}

const unknownVersion = new NotFound({ error: "There is no such version of the key backup" })

/** The number of a version; undefined if it is not one of ours. */
const numberOf = (version: string): number | undefined =>
  /^[1-9][0-9]{0,14}$/.test(version) ? Number(version) : undefined

const isIndex = (value: Json | undefined): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0

const isSessionId = (text: string): boolean => text.length <= 255 && isStorable(text)

const readKey = (
  roomId: string,
  sessionId: string,
  given: Json | undefined
): Effect.Effect<BackedUpKey, MatrixError> => {
  const name = `${roomId.slice(0, 255)} ${sessionId.slice(0, 255)}`
  if (!isRoomId(roomId) || !isSessionId(sessionId)) {
    return Effect.fail(new InvalidParam({ error: `${name}: expected a room ID and a session ID` }))
  }
  const { first_message_index, forwarded_count, is_verified, session_data } = isJsonObject(given) ? given : {}
  if (
    !isIndex(first_message_index) ||
    !isIndex(forwarded_count) ||
    typeof is_verified !== "boolean" ||
    !(isJsonObject(session_data) || typeof session_data === "string")
  ) {
    return Effect.fail(
      new BadJson({ error: `${name}: expected first_message_index, forwarded_count, is_verified and session_data` })
    )
  }
  const sessionData = JSON.stringify(session_data)
  return sessionData.length > maxKeyBytes
    ? Effect.fail(new TooLarge({ error: `${name}: a key has at most ${maxKeyBytes} bytes` }))
    : Effect.succeed({
        roomId,
        sessionId,
        firstMessageIndex: first_message_index,
        forwardedCount: forwarded_count,
        isVerified: is_verified,
        sessionData
      })
}

const toClient = (key: BackedUpKey): SessionKey => ({
  first_message_index: key.firstMessageIndex,
  forwarded_count: key.forwardedCount,
  is_verified: key.isVerified,
  session_data: JSON.parse(key.sessionData) as BackupData
})

const toRooms = (keys: ReadonlyArray<BackedUpKey>): RoomKeys => {
  const rooms = [...Map.groupBy(keys, ({ roomId }) => roomId)].map(
    ([roomId, ofRoom]) =>
      [roomId, { sessions: Object.fromEntries(ofRoom.map((key) => [key.sessionId, toClient(key)])) }] as const
  )
  return { rooms: Object.fromEntries(rooms) }
}

const make = Effect.gen(function* () {
  const store = yield* KeyBackupStore

  const find = Effect.fnUntraced(function* ({ userId }: Session, version: string | undefined) {
    const number = version === undefined ? undefined : numberOf(version)
    const found =
      version !== undefined && number === undefined ? Option.none<KeyBackup>() : yield* store.find(userId, number)
    return Option.isSome(found) ? found.value : yield* unknownVersion
  })

  const checkAuthData = ({ auth_data }: BackupDescription) =>
    JSON.stringify(auth_data).length > maxAuthDataBytes
      ? Effect.fail(new TooLarge({ error: `auth_data: at most ${maxAuthDataBytes} bytes` }))
      : Effect.void

  const create = Effect.fn("KeyBackups.create")(function* (session: Session, given: BackupDescription) {
    yield* checkAuthData(given)
    return String(yield* store.create(session.userId, given.algorithm, given.auth_data, maxVersions))
  })

  const update = Effect.fn("KeyBackups.update")(function* (
    session: Session,
    version: string,
    given: BackupDescription & { readonly version?: string | undefined }
  ): Effect.fn.Return<void, MatrixError> {
    yield* checkAuthData(given)
    const backup = yield* find(session, version)
    if (given.version !== undefined && given.version !== version) {
      return yield* new InvalidParam({ error: "version: must be that of the path" })
    }
    if (given.algorithm !== backup.algorithm) return yield* new InvalidParam({ error: "algorithm: cannot be changed" })
    yield* store.setAuthData(session.userId, backup.version, given.auth_data)
  })

  const remove = Effect.fn("KeyBackups.remove")(function* ({ userId }: Session, version: string) {
    const number = numberOf(version)
    if (number === undefined || !(yield* store.remove(userId, number))) return yield* unknownVersion
  })

  const put = Effect.fn("KeyBackups.put")(function* (
    { userId }: Session,
    version: string,
    { rooms }: { readonly rooms: JsonObject }
  ): Effect.fn.Return<KeyCount, MatrixError> {
    const keys: Array<BackedUpKey> = []
    for (const [roomId, room] of Object.entries(rooms)) {
      const sessions = isJsonObject(room) ? room.sessions : undefined
      if (!isJsonObject(sessions))
        return yield* new BadJson({ error: `rooms: ${roomId.slice(0, 255)}: expected sessions` })
      for (const [sessionId, given] of Object.entries(sessions)) keys.push(yield* readKey(roomId, sessionId, given))
    }
    return yield* store.put(userId, numberOf(version) ?? 0, keys, limits).pipe(
      Effect.mapError((error): MatrixError => {
        if (error._tag === "BackupFull") {
          return new UserLimitExceeded({
            error: `A key backup has at most ${limits.keys} keys and ${limits.bytes >> 20} MiB, those of a user ${limits.bytesOfUser >> 20} MiB`
          })
        }
        if (error.current === undefined) return unknownVersion
        return new WrongRoomKeysVersion({
          error: "The version is not the current one",
          current_version: String(error.current)
        })
      })
    )
  })

  const keys = Effect.fn("KeyBackups.keys")(function* (
    session: Session,
    version: string,
    selection: KeySelection
  ): Effect.fn.Return<RoomKeys, MatrixError> {
    const backup = yield* find(session, version)
    return toRooms(yield* store.keys(session.userId, backup.version, selection))
  })

  const removeKeys = Effect.fn("KeyBackups.removeKeys")(function* (
    { userId }: Session,
    version: string,
    selection: KeySelection
  ): Effect.fn.Return<KeyCount, MatrixError> {
    const removed = yield* store.removeKeys(userId, numberOf(version) ?? 0, selection)
    return Option.isSome(removed) ? removed.value : yield* unknownVersion
  })

  return KeyBackups.of({ create, find, update, remove, put, keys, removeKeys })
})

/** Encrypted backups of room keys. */
export class KeyBackups extends Context.Service<
  KeyBackups,
  {
    /** A new version, which is the current one. Errors: M_TOO_LARGE. */
    readonly create: (session: Session, given: BackupDescription) => Effect.Effect<string, MatrixError>
    /** A version, or the current one. Errors: M_NOT_FOUND. */
    readonly find: (session: Session, version: string | undefined) => Effect.Effect<KeyBackup, MatrixError>
    /** Changes `auth_data`. Errors: M_NOT_FOUND, M_INVALID_PARAM, M_TOO_LARGE. */
    readonly update: (
      session: Session,
      version: string,
      given: BackupDescription & { readonly version?: string | undefined }
    ) => Effect.Effect<void, MatrixError>
    /** Deletes a version with its keys. Errors: M_NOT_FOUND if there never was such a version. */
    readonly remove: (session: Session, version: string) => Effect.Effect<void, MatrixError>
    /**
     * Stores keys in the current version. A key that is there stays, unless the new one is verified and it is not, or has a
     * lower first index, or was forwarded less often. Errors: M_WRONG_ROOM_KEYS_VERSION, M_NOT_FOUND, M_BAD_JSON, M_TOO_LARGE,
     * M_USER_LIMIT_EXCEEDED.
     */
    readonly put: (
      session: Session,
      version: string,
      keys: { readonly rooms: JsonObject }
    ) => Effect.Effect<KeyCount, MatrixError>
    /** Errors: M_NOT_FOUND for an unknown version. */
    readonly keys: (session: Session, version: string, selection: KeySelection) => Effect.Effect<RoomKeys, MatrixError>
    /** Errors: M_NOT_FOUND for an unknown version. */
    readonly removeKeys: (
      session: Session,
      version: string,
      selection: KeySelection
    ) => Effect.Effect<KeyCount, MatrixError>
  }
>()("greenroom/actors/KeyBackups") {
  static readonly layer = Layer.effect(KeyBackups, make)
}
