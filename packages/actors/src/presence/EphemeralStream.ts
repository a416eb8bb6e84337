/**
 * What happens now and is not kept: presence and typing. One per node. Actors publish what changed, the event stream
 * reads what is newer than a position. Only the last value of each user and each room is held, so memory follows the
 * people who are about, not what they do.
 *
 * Positions count from 1 and mean something only together with `incarnation`, which is new with every start of the
 * process: a position of another incarnation says nothing, its reader begins at 0.
 *
 * Source: "Presence" and "Typing notifications" of the specification.
 */
import { randomBytes } from "node:crypto"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Context, Effect, Latch, Layer } from "effect"
import type { PresenceContent } from "./PresenceContent.ts"

/** A user's presence as a moment: `last_active_at` (milliseconds since 1970) instead of the age that clients get. */
export interface PresenceValue extends Omit<PresenceContent, "last_active_ago"> {
  readonly last_active_at?: number
}

/** The content of `m.presence` at `now` (milliseconds since 1970). */
export const toPresenceContent = (value: PresenceValue, now: number): PresenceContent => {
  const { last_active_at, ...content } = value
  return last_active_at === undefined ? content : { ...content, last_active_ago: Math.max(0, now - last_active_at) }
}

/**
 * A change of presence. Its audience is everybody who may see the user; or, where a user is hidden, what is true goes to
 * the user alone (`self`) and what it looks like to the others (`others`).
 */
export interface PresenceUpdate {
  readonly _tag: "presence"
  readonly position: number
  readonly userId: UserId
  readonly audience: "all" | "self" | "others"
  readonly value: PresenceValue
}

/** Somebody who is about entered a room: those who are there may see the user now. */
export interface EntranceUpdate {
  readonly _tag: "entrance"
  readonly position: number
  readonly userId: UserId
  readonly roomId: RoomId
  /** As others see it. */
  readonly value: PresenceValue
}

/** Who types in a room now, after somebody started or stopped. */
export interface TypingUpdate {
  readonly _tag: "typing"
  readonly position: number
  readonly roomId: RoomId
  readonly userIds: ReadonlyArray<UserId>
}

/** Somebody asks a user for permission to see the user's presence. For that user alone. */
export interface PresenceInviteUpdate {
  readonly _tag: "presenceInvite"
  readonly position: number
  readonly userId: UserId
  readonly observer: UserId
}

export type EphemeralUpdate = PresenceUpdate | EntranceUpdate | TypingUpdate | PresenceInviteUpdate

/** `m.presence_invite` as the invited user's clients receive it; the EDU of that name is its model. */
export interface PresenceInviteEvent {
  readonly type: "m.presence_invite"
  readonly content: { readonly observer_user: UserId; readonly observed_user: UserId }
}

export const toPresenceInviteEvent = (update: PresenceInviteUpdate): PresenceInviteEvent => ({
  type: "m.presence_invite",
  content: { observer_user: update.observer, observed_user: update.userId }
})

export interface EphemeralChunk {
  /** In order of their positions; each user's and each room's last one alone. */
  readonly updates: ReadonlyArray<EphemeralUpdate>
  /** Where to read on. */
  readonly position: number
  /** False if something after the position was forgotten meanwhile (an offline user, a room in which nobody types). */
  readonly complete: boolean
}

/** For how long an offline user and an empty typing list are remembered, in milliseconds. */
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

/** What may be forgotten after a while, because a reader who comes later loses nothing by it. */
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
  position = 0
  /** Nothing after this position was forgotten. */
  private forgottenUpTo = 0
  private log: Array<Entry> = []
  private readonly latest = new Map<string, Entry>()

  get(key: string): EphemeralUpdate | undefined {
    return this.latest.get(key)?.update
  }

  append(update: EphemeralUpdate, now: number): void {
    const entry = { update, at: now }
    this.latest.set(keyOf(update), entry)
    this.log.push(entry)
    if (this.log.length > 2 * this.latest.size + 1024) this.compact(now)
  }

  delete(key: string): void {
    this.latest.delete(key)
  }

  since(position: number): EphemeralChunk {
    const updates: Array<EphemeralUpdate> = []
    for (let index = this.indexAfter(position); index < this.log.length; index++) {
      const entry = this.log[index]!
      if (this.latest.get(keyOf(entry.update)) === entry) updates.push(entry.update)
    }
    return { updates, position: this.position, complete: position >= this.forgottenUpTo }
  }

  private indexAfter(position: number): number {
    let low = 0
    let high = this.log.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.log[middle]!.update.position <= position) low = middle + 1
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
      this.forgottenUpTo = entry.update.position
      return false
    })
  }
}

export class EphemeralStream extends Context.Service<
  EphemeralStream,
  {
    /** Random, made at the start of the process. */
    readonly incarnation: string
    /** The position of the newest update; 0 before the first. */
    readonly position: Effect.Effect<number>
    /** What is newer than the position. Costs what it returns. */
    readonly since: (position: number) => Effect.Effect<EphemeralChunk>
    /** Waits until there is something newer than the position. */
    readonly changed: (position: number) => Effect.Effect<void>
    /** Tells those who may see the user. With `own`, the user is told that instead, and the others `value`. */
    readonly publishPresence: (value: PresenceValue, own?: PresenceValue) => Effect.Effect<void>
    /** Tells a hidden user alone. */
    readonly publishOwnPresence: (own: PresenceValue) => Effect.Effect<void>
    /** Tells the members of a room who entered it, if this node knows the user to be about. */
    readonly publishEntrance: (userId: UserId, roomId: RoomId) => Effect.Effect<void>
    /** Tells the members of the room. */
    readonly publishTyping: (roomId: RoomId, userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
    /** Tells the observed user that the observer asks for permission. */
    readonly publishPresenceInvite: (observer: UserId, observed: UserId) => Effect.Effect<void>
    /** The last presence of a user as others see it, or as the user does, if this node knows it. */
    readonly presence: (userId: UserId, viewer?: UserId) => PresenceValue | undefined
    /** Who types in the room now. */
    readonly typing: (roomId: RoomId) => ReadonlyArray<UserId>
  }
>()("greenroom/actors/EphemeralStream") {
  static readonly layer = Layer.sync(EphemeralStream, () => {
    const values = new LastValues()
    let next = Latch.makeUnsafe(false)

    const append = (make: (position: number) => EphemeralUpdate, now: number) =>
      values.append(make(++values.position), now)
    const wake = () => {
      const latch = next
      next = Latch.makeUnsafe(false)
      latch.openUnsafe()
    }
    const publish = (write: (now: number) => void) =>
      Effect.map(monotonicMillis, (now) => {
        write(now)
        wake()
      })
    const presenceTo =
      (audience: PresenceUpdate["audience"], value: PresenceValue) =>
      (position: number): PresenceUpdate => ({ _tag: "presence", position, userId: value.user_id, audience, value })

    const changed = (position: number): Effect.Effect<void> =>
      Effect.suspend(() =>
        values.position > position ? Effect.void : Effect.flatMap(next.await, () => changed(position))
      )

    return {
      incarnation: randomBytes(6).toString("hex"),
      position: Effect.sync(() => values.position),
      since: (position) => Effect.sync(() => values.since(position)),
      changed,
      publishPresence: (value, own) =>
        publish((now) => {
          if (own === undefined) {
            values.delete(`self ${value.user_id}`)
            append(presenceTo("all", value), now)
          } else {
            append(presenceTo("others", value), now)
            append(presenceTo("self", own), now)
          }
        }),
      publishOwnPresence: (own) => publish((now) => append(presenceTo("self", own), now)),
      publishEntrance: (userId, roomId) =>
        Effect.suspend(() => {
          const update = values.get(userId)
          if (update?._tag !== "presence" || update.value.state === "offline") return Effect.void
          const { value } = update
          return publish((now) => append((position) => ({ _tag: "entrance", position, userId, roomId, value }), now))
        }),
      publishTyping: (roomId, userIds) =>
        publish((now) => append((position) => ({ _tag: "typing", position, roomId, userIds }), now)),
      publishPresenceInvite: (observer, userId) =>
        publish((now) => append((position) => ({ _tag: "presenceInvite", position, userId, observer }), now)),
      presence: (userId, viewer) => {
        const update = (viewer === userId ? values.get(`self ${userId}`) : undefined) ?? values.get(userId)
        return update?._tag === "presence" ? update.value : undefined
      },
      typing: (roomId) => {
        const update = values.get(roomId)
        return update?._tag === "typing" ? update.userIds : []
      }
    }
  })
}
