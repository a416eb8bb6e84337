/**
 * The present presence and typing, which is not kept. One per node. Actors publish changes as rows of the event log
 * (`ShortLivedStore`); every node reads the rows of all nodes and holds the last value of each user and room in memory. The
 * event stream reads the values newer than a position. Memory follows the number of users that are online, not their
 * activity.
 *
 * After a crash of the database, and when a server starts, nothing is left: the log has an epoch that is `fresh` then, and
 * readers from before it get all present values.
 *
 * Source: "Presence" and "Typing notifications" of the draft and of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { EventLog, type LogSlice, type StreamedEvent } from "@greenroom/store/EventLog"
import { logEpochs } from "@greenroom/store/LogEpoch"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { ShortLivedStore, type ShortLivedValue } from "@greenroom/store/ShortLivedStore"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Clock, Context, Effect, Latch, Layer } from "effect"
import { Nodes } from "../runtime/Nodes.ts"
import { isHiddenDevice } from "./HiddenDevices.ts"
import type { PresenceContent } from "./PresenceContent.ts"

/** A user's presence as a moment: `last_active_at` (milliseconds since 1970) instead of the age that clients get. */
export interface PresenceValue extends Omit<PresenceContent, "last_active_ago"> {
  readonly last_active_at?: number
}

/** Whether `b` need not be published after `a`. Activity alone is not published. */
export const isSamePresence = (a: PresenceValue | undefined, b: PresenceValue): boolean =>
  a !== undefined &&
  a.state === b.state &&
  a.status_msg === b.status_msg &&
  a.displayname === b.displayname &&
  a.avatar_url === b.avatar_url

/** The content of `m.presence` at `now` (milliseconds since 1970). */
export const toPresenceContent = (value: PresenceValue, now: number): PresenceContent => {
  const { last_active_at, ...content } = value
  return last_active_at === undefined ? content : { ...content, last_active_ago: Math.max(0, now - last_active_at) }
}

/**
 * A change of presence. Its audience is everybody who may see the user; or, if a user is hidden, the true presence goes to
 * the user alone (`self`) and the visible one to the others (`others`).
 */
export interface PresenceUpdate {
  readonly _tag: "presence"
  readonly position: StreamPosition
  readonly userId: UserId
  readonly audience: "all" | "self" | "others"
  readonly value: PresenceValue
}

/** A user who is not offline entered a room: its members may see the user from now on. */
export interface EntranceUpdate {
  readonly _tag: "entrance"
  readonly position: StreamPosition
  readonly userId: UserId
  readonly roomId: RoomId
  /** As others see it. */
  readonly value: PresenceValue
}

/** The users typing in a room, after a change. */
export interface TypingUpdate {
  readonly _tag: "typing"
  readonly position: StreamPosition
  readonly roomId: RoomId
  readonly userIds: ReadonlyArray<UserId>
}

/** A user requests permission to see another user's presence. For that other user alone. */
export interface PresenceInviteUpdate {
  readonly _tag: "presenceInvite"
  readonly position: StreamPosition
  readonly userId: UserId
  readonly observer: UserId
}

/** A change of presence or typing, with its position. */
export type EphemeralUpdate = (PresenceUpdate | EntranceUpdate | TypingUpdate | PresenceInviteUpdate) & {
  /** Whether this node has published it, and so sends it to other servers. */
  readonly isOwn: boolean
  /** The node that has published it (`Nodes`), if one did. */
  readonly node?: string
}

/** `m.presence_invite` as the invited user's clients receive it; the EDU of that name is its model. */
export interface PresenceInviteEvent {
  readonly type: "m.presence_invite"
  readonly content: { readonly observer_user: UserId; readonly observed_user: UserId }
}

/** The event by which clients learn of a presence invitation. */
export const toPresenceInviteEvent = (update: PresenceInviteUpdate): PresenceInviteEvent => ({
  type: "m.presence_invite",
  content: { observer_user: update.observer, observed_user: update.userId }
})

/** Updates after a position, and the position to continue from. */
export interface EphemeralChunk {
  /** In order of their positions; each user's and each room's last one alone. */
  readonly updates: ReadonlyArray<EphemeralUpdate>
  /** The position from which to read on. */
  readonly position: StreamPosition
  /** False if a value after the position was dropped since (an offline user, a room without typing users). */
  readonly complete: boolean
}

/** The time for which an offline user and an empty typing list are remembered, in milliseconds. */
const rememberedFor = 60 * 60 * 1000
/** How many of those are remembered at most. */
const rememberedAtMost = 50_000

interface Entry {
  readonly update: EphemeralUpdate
  readonly at: number
}

const keyOf = (update: EphemeralUpdate): string => {
  switch (update._tag) {
    case "typing":
      return update.roomId
    case "presence":
      return update.audience === "self" ? `self ${update.userId}` : update.userId
    case "entrance":
      return `entrance ${update.userId} ${update.roomId}`
    case "presenceInvite":
      return `invite ${update.observer} ${update.userId}`
  }
}

/** Values that can be dropped after a while, because later readers do not miss them. */
const isAtRest = (update: EphemeralUpdate): boolean => {
  switch (update._tag) {
    case "typing":
      return update.userIds.length === 0
    case "presence":
      return update.value.state === "offline"
    case "entrance":
    case "presenceInvite":
      return true
  }
}

/** The last values in order of their positions: a log that is compacted once half of it is superseded. */
class LastValues {
  position = beginning
  /** No value after this position was dropped. */
  completeSince = beginning
  private log: Array<Entry> = []
  private readonly latest = new Map<string, Entry>()

  get(key: string): EphemeralUpdate | undefined {
    return this.latest.get(key)?.update
  }

  current(): ReadonlyArray<EphemeralUpdate> {
    return Array.from(this.latest.values(), ({ update }) => update)
  }

  append(update: EphemeralUpdate, now: number): void {
    const entry = { update, at: now }
    this.position = laterPosition(this.position, update.position)
    this.latest.set(keyOf(update), entry)
    this.log.push(entry)
    if (this.log.length > 2 * this.latest.size + 1024) this.compact(now)
  }

  delete(key: string): void {
    this.latest.delete(key)
  }

  /** Forgets everything: at this position all values were lost. */
  clear(position: StreamPosition): void {
    this.log = []
    this.latest.clear()
    this.completeSince = position
  }

  since(position: StreamPosition): EphemeralChunk {
    const updates: Array<EphemeralUpdate> = []
    for (let index = this.indexAfter(position); index < this.log.length; index++) {
      const entry = this.log[index]!
      if (this.latest.get(keyOf(entry.update)) === entry) updates.push(entry.update)
    }
    return { updates, position: this.position, complete: comparePositions(position, this.completeSince) >= 0 }
  }

  /** As `since`, for typing in some rooms only. The cost is proportional to the rooms, or to all newer values if there are fewer. */
  typingSince(position: StreamPosition, rooms: ReadonlySet<RoomId>): ReadonlyArray<TypingUpdate> | undefined {
    if (comparePositions(position, this.completeSince) < 0) return undefined
    const start = this.indexAfter(position)
    const newer =
      this.log.length - start < rooms.size
        ? this.log
            .slice(start)
            .flatMap((entry) => (this.latest.get(keyOf(entry.update)) === entry ? [entry.update] : []))
        : Array.from(rooms, (roomId) => this.get(roomId))
    return newer.filter(
      (update) =>
        update?._tag === "typing" && rooms.has(update.roomId) && comparePositions(update.position, position) > 0
    ) as ReadonlyArray<TypingUpdate>
  }

  private indexAfter(position: StreamPosition): number {
    let low = 0
    let high = this.log.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (comparePositions(this.log[middle]!.update.position, position) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }

  private compact(now: number): void {
    const current = this.log.filter((entry) => this.latest.get(keyOf(entry.update)) === entry)
    let tooMany = current.filter((entry) => isAtRest(entry.update)).length - rememberedAtMost
    this.log = current.filter((entry) => {
      if (!isAtRest(entry.update) || (tooMany <= 0 && now - entry.at < rememberedFor)) return true
      tooMany--
      this.latest.delete(keyOf(entry.update))
      this.completeSince = entry.update.position
      return false
    })
  }
}

type Published<A> = Omit<A, "position" | "isOwn" | "node">

/** The user who enters a room by an event. */
const entrantOf = ({ content, state_key, type, unsigned }: Event): UserId | undefined => {
  if (type !== "m.room.member" || content.membership !== "join") return undefined
  const before = unsigned?.prev_content as { readonly membership?: unknown } | undefined
  return before?.membership === "join" ? undefined : (state_key as UserId)
}

/** The current presence and typing of all users and rooms, as this node knows them. */
export class EphemeralStream extends Context.Service<
  EphemeralStream,
  {
    /** The position of the newest update. */
    readonly position: Effect.Effect<StreamPosition>
    /** The values newer than the position. The cost is in proportion to the result. */
    readonly since: (position: StreamPosition) => Effect.Effect<EphemeralChunk>
    /** The typing users of each room, among the given, where they changed since the position; undefined if changes since then are forgotten. */
    readonly typingSince: (
      position: StreamPosition,
      rooms: ReadonlySet<RoomId>
    ) => ReadonlyArray<TypingUpdate> | undefined
    /** Waits until there is something newer than the position. */
    readonly changed: (position: StreamPosition) => Effect.Effect<void>
    /** Publishes presence to those who may see the user. With `own`, the user gets that instead, and the others `value`. */
    readonly publishPresence: (value: PresenceValue, own?: PresenceValue) => Effect.Effect<void>
    /** Publishes presence to a hidden user alone. */
    readonly publishOwnPresence: (own: PresenceValue) => Effect.Effect<void>
    /** Publishes who types to the members of the room. */
    readonly publishTyping: (roomId: RoomId, userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
    /** Lets the observed user know that the observer asks for permission. */
    readonly publishPresenceInvite: (observer: UserId, observed: UserId) => Effect.Effect<void>
    /** The last presence of a user as others see it, or as the user does, if it is known. */
    readonly presence: (userId: UserId, viewer?: UserId) => PresenceValue | undefined
    /** The presence of a user as others see it, if this node has published it. */
    readonly ownPresence: (userId: UserId) => PresenceValue | undefined
    /** The users typing in the room now. */
    readonly typing: (roomId: RoomId) => ReadonlyArray<UserId>
    /** The same; undefined for a room in which no user has typed lately. */
    readonly lastTyping: (roomId: RoomId) => ReadonlyArray<UserId> | undefined
    /** The rooms in which the user types now. */
    readonly roomsTypedIn: (userId: UserId) => ReadonlyArray<RoomId>
    /** The last values that lost nodes have published. */
    readonly orphaned: () => ReadonlyArray<EphemeralUpdate>
    /** The users who are not offline, hidden ones included. */
    readonly online: () => ReadonlyArray<UserId>
    /** Readers from before this position get all present values, including empty typing lists. */
    readonly completeSince: () => StreamPosition
  }
>()("greenroom/actors/EphemeralStream") {
  static readonly layer = Layer.effect(
    EphemeralStream,
    Effect.gen(function* () {
      const log = yield* EventLog
      const store = yield* ShortLivedStore
      const clock = yield* Clock.Clock
      const values = new LastValues()
      const { isAlive, name: here } = yield* Nodes
      let next = Latch.makeUnsafe(false)

      // Reading

      const append = (update: EphemeralUpdate) => values.append(update, monotonicMillisUnsafe(clock))

      const take = ({ key, position, value }: ShortLivedValue) => {
        if (isHiddenDevice(key)) return
        if (value === null) return values.delete(key)
        const { node, ...update } = value as Published<EphemeralUpdate> & { readonly node: string }
        append({ ...update, position, isOwn: node === here, node } as EphemeralUpdate)
      }

      const enter = ({ event, position }: StreamedEvent) => {
        const userId = entrantOf(event)
        const update = userId === undefined ? undefined : values.get(userId)
        if (update?._tag !== "presence" || update.value.state === "offline") return
        const { userId: entrant, value } = update
        append({ _tag: "entrance", position, userId: entrant, roomId: event.room_id, value, isOwn: update.isOwn })
      }

      const read = (slice: LogSlice) => {
        const before = values.position
        for (const { position, row } of rowsOf(slice.rows, logEpochs)) if (row.fresh) values.clear(position)
        const written = store
          .valuesOf(slice)
          .filter(({ position }) => comparePositions(position, values.completeSince) > 0)
        // An entrance is shown with the presence of its time: the two kinds are taken in the order of their positions.
        let taken = 0
        for (const streamed of slice.events) {
          while (taken < written.length && comparePositions(written[taken]!.position, streamed.position) < 0) {
            take(written[taken++]!)
          }
          enter(streamed)
        }
        for (const value of written.slice(taken)) take(value)
        if (values.position === before) return
        const latch = next
        next = Latch.makeUnsafe(false)
        latch.openUnsafe()
      }

      const start = yield* log.follow((slice) => Effect.sync(() => read(slice)))
      values.clear(start)
      for (const value of yield* store.all) take(value)

      const changed = (position: StreamPosition): Effect.Effect<void> =>
        Effect.suspend(() =>
          comparePositions(values.position, position) > 0
            ? Effect.void
            : Effect.flatMap(next.await, () => changed(position))
        )

      // Publishing

      const presenceTo = (audience: PresenceUpdate["audience"], value: PresenceValue): Published<PresenceUpdate> => ({
        _tag: "presence",
        userId: value.user_id,
        audience,
        value
      })
      /** Says which node has published it. */
      const signed = (update: Published<EphemeralUpdate>) => ({ ...update, node: here })
      const publish = (...updates: ReadonlyArray<Published<EphemeralUpdate>>) =>
        store.put(new Map(updates.map((update) => [keyOf(update as EphemeralUpdate), signed(update)])))

      const lastTyping = (roomId: RoomId) => {
        const update = values.get(roomId)
        return update?._tag === "typing" ? update.userIds : undefined
      }

      return EphemeralStream.of({
        position: Effect.sync(() => values.position),
        since: (position) => Effect.sync(() => values.since(position)),
        typingSince: (position, rooms) => values.typingSince(position, rooms),
        changed,
        publishPresence: (value, own) => {
          if (own !== undefined) return publish(presenceTo("others", value), presenceTo("self", own))
          const update = presenceTo("all", value)
          const ownKey = `self ${value.user_id}`
          return values.get(ownKey) === undefined
            ? publish(update)
            : store.put(
                new Map<string, unknown>([
                  [value.user_id, signed(update)],
                  [ownKey, null]
                ])
              )
        },
        publishOwnPresence: (own) => publish(presenceTo("self", own)),
        publishTyping: (roomId, userIds) => publish({ _tag: "typing", roomId, userIds } as Published<TypingUpdate>),
        publishPresenceInvite: (observer, userId) =>
          publish({ _tag: "presenceInvite", userId, observer } as Published<PresenceInviteUpdate>),
        presence: (userId, viewer) => {
          const update = (viewer === userId ? values.get(`self ${userId}`) : undefined) ?? values.get(userId)
          return update?._tag === "presence" ? update.value : undefined
        },
        ownPresence: (userId) => {
          const update = values.get(userId)
          return update?._tag === "presence" && update.isOwn ? update.value : undefined
        },
        typing: (roomId) => lastTyping(roomId) ?? [],
        lastTyping,
        roomsTypedIn: (userId) =>
          values
            .current()
            .flatMap((update) => (update._tag === "typing" && update.userIds.includes(userId) ? [update.roomId] : [])),
        orphaned: () => values.current().filter(({ node }) => node !== undefined && !isAlive(node)),
        online: () =>
          values
            .current()
            .filter((update) => update._tag === "presence")
            .filter(({ audience, value }) => audience !== "others" && value.state !== "offline")
            .map(({ userId }) => userId),
        completeSince: () => values.completeSince
      })
    })
  )
}
