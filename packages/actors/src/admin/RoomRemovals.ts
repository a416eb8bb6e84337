/**
 * Removes rooms and history. Each step may be repeated, also on two nodes at once: a removal that a restart or an outage
 * interrupted goes on from the start.
 *
 * A room is shut down in this order: it is blocked; a new room is made, if one is wanted; users of this server are
 * put into the new one, and leave; its aliases go. A purge then hides the room, so that nothing of it is served from that
 * instant, makes its actor forget it, and removes its rows in batches.
 *
 * Loaded on first use (`AdminServices`).
 */
import type { RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { type HistoryPoint, RoomAdministrationStore } from "@greenroom/store/RoomAdministrationStore"
import { type Removal, RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Context, Effect, Layer, Option, Result } from "effect"
import { PresetRooms } from "../room/PresetRooms.ts"
import { Room } from "../room/RoomProtocol.ts"
import { Rooms } from "../room/Rooms.ts"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { handleEach, outcomeOf, type TryAgain } from "../runtime/ItemFailure.ts"
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
  readonly kicked_users: ReadonlyArray<UserId>
  readonly failed_to_kick_users: ReadonlyArray<UserId>
  readonly local_aliases: ReadonlyArray<RoomAlias>
  readonly new_room_id: RoomId | null
  /** All users that were in the room. Administrators get the lists above. */
  readonly users: ReadonlyArray<UserId>
}

/** The memberships of users that have to leave. */
const presentMemberships = ["join", "invite", "knock"]

const defaultName = "Content Violation Notification"
const defaultMessage = "Sharing illegal content on this server is not permitted and rooms in violation will be blocked."

const sessionOf = (userId: UserId): Session => ({ userId, tokenId: 0, deviceId: "" })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* RoomAdministrationStore
  const removals = yield* RoomRemovalStore
  const rooms = yield* Rooms
  const presetRooms = yield* PresetRooms
  const memberships = yield* RoomStore
  const directory = yield* DirectoryStore
  const actor = yield* Room.client
  const running = new Set<string>()

  /** The same room for each attempt of a removal: the transaction ID names the removal. */
  const makeNewRoom = Effect.fnUntraced(function* (
    userId: UserId,
    { message, roomName }: ShutdownOptions,
    removalId: string
  ) {
    const txnId = `removal ${removalId}`
    const { room_id } = yield* presetRooms.create(
      sessionOf(userId),
      { preset: "public_chat", name: roomName ?? defaultName, powerLevels: { users_default: -10 } },
      txnId
    )
    const notice = { msgtype: "m.text", body: message ?? defaultMessage }
    yield* rooms.send(sessionOf(userId), room_id, "m.room.message", notice, txnId)
    return room_id
  })

  /** Whether the user has left the room or was removed from it. */
  const isOut = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    const found = yield* memberships.membership(userId, roomId)
    return Option.isNone(found) || !presentMemberships.includes(found.value.membership)
  })

  /** Puts a user into the new room, and takes them out of this one. False if one of them was refused. */
  const moveUser = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId, newRoom: RoomId | undefined) {
    const session = sessionOf(userId)
    const enter = newRoom === undefined ? Effect.void : Effect.asVoid(rooms.join(session, newRoom))
    const entered = yield* outcomeOf(`${userId} entering ${newRoom}`, enter)
    const left = yield* outcomeOf(`${userId} leaving ${roomId}`, rooms.leave(session, roomId))
    if (Result.isFailure(entered)) {
      yield* Effect.logWarning(`${userId} could not enter ${newRoom}: ${entered.failure.error}`)
    }
    const isMoved = Result.isSuccess(left) || (yield* isOut(userId, roomId))
    if (Result.isFailure(left) && !isMoved) {
      yield* Effect.logWarning(`${userId} could not leave ${roomId}: ${left.failure.error}`)
    }
    return Result.isSuccess(entered) && isMoved
  })

  const shutDown = Effect.fnUntraced(function* (removal: Removal, options: ShutdownOptions) {
    const { removalId, requestedBy, roomId } = removal
    const before = removal.result as Partial<ShutdownResult>
    if (options.block) yield* removals.setBlocked(roomId, requestedBy)
    const room = Option.getOrUndefined(yield* store.find(roomId))
    const newRoomId =
      before.new_room_id ??
      (room === undefined || options.newRoomUserId === undefined
        ? null
        : yield* makeNewRoom(options.newRoomUserId, options, removalId))
    const present = room === undefined ? [] : yield* store.members(room.roomNid, presentMemberships, serverName)
    const users = [...new Set([...(before.users ?? before.kicked_users ?? []), ...present])]
    const aliases = new Set([...(before.local_aliases ?? []), ...(yield* directory.aliasesOf(roomId))])
    const result = {
      kicked_users: users.filter((user) => !present.includes(user)),
      failed_to_kick_users: [] as UserId[],
      local_aliases: [...aliases],
      new_room_id: newRoomId,
      users
    }
    // Users and aliases are recorded before they go: the next attempt cannot read them any more.
    yield* removals.setRemoval(removalId, { status: "shutting_down", result })
    yield* handleEach(
      present,
      (userId) =>
        Effect.map(moveUser(userId, roomId, newRoomId ?? undefined), (moved) => {
          ;(moved ? result.kicked_users : result.failed_to_kick_users).push(userId)
        }),
      4
    )
    for (const alias of yield* store.unpublish(roomId)) aliases.add(alias)
    return { ...result, local_aliases: [...aliases] } satisfies ShutdownResult
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

  const runAlone = Effect.fnUntraced(function* (removalId: string) {
    const removal = yield* find(removalId)
    if (removal.finishedAt !== undefined) return
    const work =
      removal.kind === "room"
        ? removeRoom(removal, removal.options as ShutdownOptions)
        : removeHistory(removal, removal.options as HistoryOptions)
    const ended = yield* outcomeOf(`The removal of ${removal.roomId}`, work)
    if (Result.isFailure(ended)) yield* removals.setRemoval(removalId, { status: "failed", error: ended.failure.error })
  })

  const run = Effect.fn("RoomRemovals.run")(function* (removalId: string) {
    if (!running.has(removalId)) {
      running.add(removalId)
      yield* Effect.ensuring(
        runAlone(removalId),
        Effect.sync(() => running.delete(removalId))
      )
    }
    return yield* find(removalId)
  })

  return RoomRemovals.of({ run })
})

/** Carries out requested removals of rooms and history in the background. */
export class RoomRemovals extends Context.Service<
  RoomRemovals,
  {
    /**
     * Runs the removal recorded in `RoomRemovalStore`; returns when it has ended. Must be repeated after `TryAgain`: something was not
     * available. Errors: M_NOT_FOUND.
     */
    readonly run: (removalId: string) => Effect.Effect<Removal, MatrixError | TryAgain>
  }
>()("greenroom/actors/RoomRemovals") {
  static readonly layer = Layer.effect(RoomRemovals, make)
}
