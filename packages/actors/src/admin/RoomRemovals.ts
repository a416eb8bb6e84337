/**
 * Removes rooms and history. Each step may be repeated, so that a removal that a restart interrupted goes on from the start.
 *
 * A room is shut down in this order: it is blocked; a new room is made, if one is wanted; users of this server leave, and
 * are put into the new one; its aliases go. A purge then hides the room, so that nothing of it is served from that
 * instant, makes its actor forget it, and removes its rows in batches.
 *
 * Loaded on first use (`AdminServices`).
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { type HistoryPoint, RoomAdministrationStore } from "@greenroom/store/RoomAdministrationStore"
import { type Removal, RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { Cause, Context, Effect, Layer, Option } from "effect"
import { PresetRooms } from "../room/PresetRooms.ts"
import { Room } from "../room/RoomProtocol.ts"
import { Rooms } from "../room/Rooms.ts"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"

interface ShutdownOptions {
  readonly block: boolean
  readonly purge: boolean
  readonly force: boolean
  readonly newRoomUserId?: UserId
  readonly roomName?: string
  readonly message?: string
}

interface HistoryOptions {
  readonly point: HistoryPoint
  readonly local: boolean
}

interface ShutdownResult {
  readonly kicked_users: ReadonlyArray<string>
  readonly failed_to_kick_users: ReadonlyArray<string>
  readonly local_aliases: ReadonlyArray<string>
  readonly new_room_id: string | null
}

const defaultName = "Content Violation Notification"
const defaultMessage = "Sharing illegal content on this server is not permitted and rooms in violation will be blocked."

const sessionOf = (userId: UserId): Session => ({ userId, tokenId: 0, deviceId: "" })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* RoomAdministrationStore
  const removals = yield* RoomRemovalStore
  const rooms = yield* Rooms
  const presetRooms = yield* PresetRooms
  const actor = yield* Room.client
  const running = new Set<string>()

  const makeNewRoom = Effect.fnUntraced(function* (userId: UserId, { message, roomName }: ShutdownOptions) {
    const { room_id } = yield* presetRooms.create(sessionOf(userId), {
      preset: "public_chat",
      name: roomName ?? defaultName,
      powerLevels: { users_default: -10 }
    })
    yield* rooms.send(sessionOf(userId), room_id, "m.room.message", {
      msgtype: "m.text",
      body: message ?? defaultMessage
    })
    return room_id
  })

  /** Takes a user out of the room and into the new one. False where that failed. */
  const moveUser = (userId: UserId, roomId: RoomId, newRoom: RoomId | undefined) =>
    Effect.gen(function* () {
      yield* rooms.leave(sessionOf(userId), roomId)
      if (newRoom !== undefined) yield* rooms.join(sessionOf(userId), newRoom)
      return true
    }).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause)
          : Effect.as(Effect.logWarning(`${userId} could not leave ${roomId}`, cause), false)
      )
    )

  const shutDown = Effect.fnUntraced(function* (removal: Removal, options: ShutdownOptions) {
    const { removalId, requestedBy, roomId } = removal
    const before = removal.result as Partial<ShutdownResult>
    if (options.block) yield* removals.setBlocked(roomId, requestedBy)
    const room = Option.getOrUndefined(yield* store.find(roomId))
    const newRoomId =
      before.new_room_id ??
      (room === undefined || options.newRoomUserId === undefined
        ? null
        : yield* makeNewRoom(options.newRoomUserId, options))
    const result = {
      kicked_users: [...(before.kicked_users ?? [])],
      failed_to_kick_users: [] as string[],
      local_aliases: [...(before.local_aliases ?? [])],
      new_room_id: newRoomId
    }
    yield* removals.setRemoval(removalId, { status: "shutting_down", result })
    const users = room === undefined ? [] : yield* store.members(room.roomNid, ["join", "invite", "knock"], serverName)
    yield* Effect.forEach(
      users,
      (userId) =>
        Effect.map(moveUser(userId, roomId, (newRoomId ?? undefined) as RoomId | undefined), (moved) => {
          ;(moved ? result.kicked_users : result.failed_to_kick_users).push(userId)
        }),
      { concurrency: 4, discard: true }
    )
    result.local_aliases.push(...(yield* store.unpublish(roomId)))
    return result satisfies ShutdownResult
  })

  /** Makes the actor drop its state of the room. */
  const forget = (roomId: RoomId) => ask(actor(roomId).Reload())

  const purge = Effect.fnUntraced(function* (roomId: RoomId) {
    const roomNid = yield* store.hide(roomId)
    if (roomNid === undefined) return
    yield* forget(roomId)
    yield* store.purge(roomNid, roomId)
    yield* forget(roomId)
  })

  const removeRoom = Effect.fnUntraced(function* (removal: Removal, options: ShutdownOptions) {
    const { removalId, roomId } = removal
    const result = yield* shutDown(removal, options)
    const failed = result.failed_to_kick_users.length
    if (options.purge && failed > 0 && !options.force) {
      return yield* removals.setRemoval(removalId, {
        status: "failed",
        result,
        error: `${plural(failed, "user")} could not leave the room, so it was not purged`
      })
    }
    if (options.purge) {
      yield* removals.setRemoval(removalId, { status: "purging", result })
      yield* purge(roomId)
    }
    yield* removals.setRemoval(removalId, { status: "complete", result })
  })

  const removeHistory = Effect.fnUntraced(function* ({ removalId, roomId }: Removal, options: HistoryOptions) {
    const room = Option.getOrUndefined(yield* store.find(roomId))
    yield* removals.setRemoval(removalId, { status: "purging" })
    const events =
      room === undefined
        ? 0
        : yield* store.purgeHistory(room.roomNid, options.point, options.local ? undefined : serverName)
    yield* removals.setRemoval(removalId, { status: "complete", result: { events } })
  })

  const find = Effect.fnUntraced(function* (removalId: string) {
    const found = yield* removals.removal(removalId)
    return Option.isSome(found) ? found.value : yield* new NotFound({ error: "There is no such removal" })
  })

  const run = Effect.fn("RoomRemovals.run")(function* (removalId: string) {
    const removal = yield* find(removalId)
    if (removal.finishedAt !== undefined || running.has(removalId)) return removal
    running.add(removalId)
    const work =
      removal.kind === "room"
        ? removeRoom(removal, removal.options as ShutdownOptions)
        : removeHistory(removal, removal.options as HistoryOptions)
    yield* work.pipe(
      Effect.catch(({ error }: MatrixError) => removals.setRemoval(removalId, { status: "failed", error })),
      Effect.ensuring(Effect.sync(() => running.delete(removalId)))
    )
    return yield* find(removalId)
  })

  return RoomRemovals.of({ run })
})

export class RoomRemovals extends Context.Service<
  RoomRemovals,
  {
    /** Runs the removal recorded in `RoomRemovalStore`; returns when it has ended. Errors: M_NOT_FOUND. */
    readonly run: (removalId: string) => Effect.Effect<Removal, MatrixError>
  }
>()("greenroom/actors/RoomRemovals") {
  static readonly layer = Layer.effect(RoomRemovals, make)
}
