/**
 * The users whose pushers this node serves: those of its shards. They are due when something has happened that may notify them.
 *
 * Used by `PushDelivery`.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { PusherStore, pusherChanges, type StoredPusher } from "@greenroom/store/PusherStore"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { RoomStore } from "@greenroom/store/RoomStore"
import type { Fence } from "@greenroom/store/ShardFenceStore"
import { comparePositions } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect } from "effect"
import { EntityId, Sharding } from "effect/cluster"
import { latchOfChanges } from "../../runtime/Nodes.ts"
import { ShardFences } from "../../runtime/ShardFences.ts"
import type { PusherProgress } from "./PusherProgress.ts"

/** How long the shards of this node must be stable before their users are read. */
const settleTime = "1 second"

/** A user with pushers. */
export interface PushedUser {
  pushers: ReadonlyArray<PusherProgress>
  /** The fence of the shard under which the node serves the user. */
  fence: Fence | undefined
  readonly rooms: Set<RoomId>
}

const newProgress = {
  badge: undefined,
  hasRead: false,
  isSlow: false,
  mailAt: undefined,
  stopWaiting: () => undefined
}

const stopWaiting = ({ pushers }: PushedUser) => {
  for (const progress of pushers) progress.stopWaiting()
}

/** `markDue` is called for each user that something has happened to. */
export const makePushedUsers = Effect.fnUntraced(function* (markDue: (userId: UserId) => void) {
  const store = yield* PusherStore
  const rooms = yield* RoomStore
  const log = yield* EventLog
  const fencing = yield* ShardFences
  const sharding = yield* Sharding.Sharding
  const scope = yield* Effect.scope
  const served = new Map<UserId, PushedUser>()
  const usersIn = new Map<RoomId, Set<UserId>>()

  const shardOf = (userId: UserId) => sharding.getShardId(EntityId.make(userId), "default")
  const isOurs = (userId: UserId): boolean => sharding.hasShardId(shardOf(userId))
  /** Also if the node has not shown for a while that it lives: it holds its shards until another node takes them. */
  const mayBeOurs = (userId: UserId): boolean => fencing.current(shardOf(userId)) !== undefined || isOurs(userId)

  const enter = (userId: UserId, { rooms }: PushedUser, roomId: RoomId) => {
    rooms.add(roomId)
    usersIn.set(roomId, (usersIn.get(roomId) ?? new Set()).add(userId))
  }

  const quit = (userId: UserId, { rooms }: PushedUser, roomId: RoomId) => {
    rooms.delete(roomId)
    const users = usersIn.get(roomId)
    users?.delete(userId)
    if (users?.size === 0) usersIn.delete(roomId)
  }

  const stopServing = (userId: UserId) => {
    const user = served.get(userId)
    if (user === undefined) return
    stopWaiting(user)
    for (const roomId of [...user.rooms]) quit(userId, user, roomId)
    served.delete(userId)
  }

  /** Where the user changes their pushers, the delivery of those that stay goes on, and one that failed is tried again at once. */
  const progressOf = (pusher: StoredPusher, { pushers }: PushedUser): PusherProgress => {
    const { failingSince, lastMail, pusherId, seen } = pusher
    const stored = { pusher, failingSince, lastMail, failures: 0, retryAt: 0 }
    const former = pushers.find((progress) => progress.pusher.pusherId === pusherId)
    if (former === undefined) return { ...newProgress, ...stored, seen }
    return Object.assign(former, stored, { seen: comparePositions(former.seen, seen) < 0 ? seen : former.seen })
  }

  /** Reads the pushers of users again, or all pushers. */
  const refresh = Effect.fnUntraced(function* (userIds?: ReadonlyArray<UserId>) {
    const listed = (yield* store.list(userIds)).filter(({ userId }) => mayBeOurs(userId))
    const found = Map.groupBy(listed, ({ userId }) => userId)
    for (const userId of userIds ?? [...served.keys()]) if (!found.has(userId)) stopServing(userId)
    const fresh = [...found.keys()].filter((userId) => !served.has(userId))
    for (const userId of fresh) {
      served.set(userId, { pushers: [], fence: undefined, rooms: new Set() })
    }
    for (const [userId, pushers] of found) {
      const user = served.get(userId)
      if (user === undefined) continue
      stopWaiting(user)
      user.pushers = pushers.map((pusher) => progressOf(pusher, user))
      user.fence = fencing.current(shardOf(userId))
    }
    const roomsOf = yield* rooms.joinedRoomsOfAll(fresh)
    for (const userId of fresh) {
      const user = served.get(userId)
      if (user !== undefined) for (const roomId of roomsOf.get(userId) ?? []) enter(userId, user, roomId)
    }
    for (const userId of found.keys()) markDue(userId)
  })

  const follow = (slice: LogSlice) =>
    Effect.suspend(() => {
      const changed = new Set(rowsOf(slice.rows, pusherChanges).map(({ row }) => row.userId))
      for (const { membership, roomId, userId } of slice.memberships) {
        const user = served.get(userId)
        if (user === undefined) continue
        if (membership === "join") enter(userId, user, roomId)
        else quit(userId, user, roomId)
        if (membership === "invite") markDue(userId)
      }
      for (const { event } of slice.events) for (const userId of usersIn.get(event.room_id) ?? []) markDue(userId)
      for (const { row } of rowsOf(slice.rows, receiptChanges)) {
        const user = served.get(row.userId)
        if (user === undefined) continue
        for (const progress of user.pushers) progress.hasRead = true
        markDue(row.userId)
      }
      // The log waits for its consumers: long work runs beside it.
      return changed.size === 0 ? Effect.void : Effect.asVoid(Effect.forkIn(refresh([...changed]), scope))
    })

  const shardsMoved = yield* latchOfChanges(fencing)
  const refreshMoved = Effect.andThen(refresh(), Effect.andThen(shardsMoved, Effect.sleep(settleTime)))

  yield* log.follow(follow)
  yield* keepRunning("Looking for pushers of this node", refreshMoved)

  return {
    /** The user, if this node serves them. */
    get: (userId: UserId): PushedUser | undefined => served.get(userId),
    /** Whether this node holds the shard of the user now. */
    isOurs,
    stopServing
  }
})
