/**
 * Content for administrators, beyond `MediaKeeping`: of whole rooms and of all that is large or old.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 *
 * Source: the media administration API of Synapse.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { removeInBatches } from "@greenroom/store/Batches"
import { type MediaName, type MediaRow, MediaStore } from "@greenroom/store/MediaStore"
import { RoomAdministrationStore } from "@greenroom/store/RoomAdministrationStore"
import { Context, Effect, Layer, Option } from "effect"
import { MediaKeeping, parseMxc } from "../media/MediaKeeping.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"

/** How many rows one statement reads or removes. */
const batch = 500

const uris = /mxc:\/\/[A-Za-z0-9.:[\]-]{1,255}\/[A-Za-z0-9_-]{1,255}/g

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* MediaStore
  const keeping = yield* MediaKeeping
  const rooms = yield* RoomAdministrationStore

  const inRoom = Effect.fn("MediaAdministration.inRoom")(function* (roomId: RoomId) {
    const room = yield* rooms.find(roomId)
    if (Option.isNone(room)) return yield* new NotFound({ error: `There is no room ${roomId}` })
    const found = new Set<string>()
    let before = Number.MAX_SAFE_INTEGER
    for (;;) {
      const rows = yield* rooms.bodiesWithMedia(room.value.roomNid, before, batch)
      for (const { body } of rows) for (const [uri] of body.matchAll(uris)) found.add(uri)
      if (rows.length < batch) return [...found]
      before = rows.at(-1)!.nid
    }
  })

  /** The number of files that were put into quarantine; unknown files and those already there do not count. */
  const quarantineAll = (names: ReadonlyArray<MediaName>, by: string) =>
    Effect.map(
      Effect.forEach(names, (name) => Effect.isSuccess(keeping.quarantine(name, by)), { concurrency: 4 }),
      (done) => done.filter(Boolean).length
    )

  const quarantineRoom = Effect.fn("MediaAdministration.quarantineRoom")(function* (roomId: RoomId, by: string) {
    const names = yield* Effect.forEach(yield* inRoom(roomId), (uri) => Effect.option(parseMxc(uri)))
    return yield* quarantineAll(names.flatMap(Option.toArray), by)
  })

  const uploadsOf = Effect.fnUntraced(function* (userId: UserId) {
    const all: Array<MediaRow> = []
    for (;;) {
      const rows = yield* keeping.uploadsOf(userId, all.at(-1))
      if (rows.length === 0) return all
      all.push(...rows)
    }
  })

  return MediaAdministration.of({
    find: (name) =>
      Effect.flatMap(store.find(name), (found) =>
        Option.isSome(found)
          ? Effect.succeed(found.value)
          : Effect.fail(new NotFound({ error: "There is no such content here" }))
      ),
    inRoom,
    uploadsOf,
    quarantineRoom,
    quarantineUser: (userId, by) => Effect.flatMap(uploadsOf(userId), (rows) => quarantineAll(rows, by)),
    removeLocal: (before, size) => removeInBatches(batch, store.removeLarge(serverName, before, size, batch)),
    removeRemote: (before) => removeInBatches(batch, store.removeRemote(before, batch)),
    isOurs: (origin) => origin === serverName
  })
})

/** Media of rooms and users for administrators. Does not check whether the caller is one. */
export class MediaAdministration extends Context.Service<
  MediaAdministration,
  {
    /** Errors: M_NOT_FOUND. */
    readonly find: (name: MediaName) => Effect.Effect<MediaRow, MatrixError>
    /** URIs of content that the events of a room name, as far as they are not encrypted. Errors: M_NOT_FOUND. */
    readonly inRoom: (roomId: RoomId) => Effect.Effect<ReadonlyArray<string>, MatrixError>
    /** Everything that a user has uploaded, the newest first. */
    readonly uploadsOf: (userId: UserId) => Effect.Effect<ReadonlyArray<MediaRow>>
    /** How many files. Errors: M_NOT_FOUND. */
    readonly quarantineRoom: (roomId: RoomId, by: string) => Effect.Effect<number, MatrixError>
    readonly quarantineUser: (userId: UserId, by: string) => Effect.Effect<number>
    /** Removes content of this server that was last used before a time and has `size` bytes; no avatars. How many files. */
    readonly removeLocal: (before: number, size: number) => Effect.Effect<number>
    readonly removeRemote: (before: number) => Effect.Effect<number>
    readonly isOurs: (origin: ServerName) => boolean
  }
>()("greenroom/actors/MediaAdministration") {
  static readonly layer = Layer.effect(MediaAdministration, make)
}
