/**
 * The state of rooms as `/sync` tells it: what a client must know before the first event of the timeline, or after the last
 * one, beyond what it knew at its position.
 *
 * Source: "Syncing" and "Lazy-loading room members" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { splitStateKey } from "@greenroom/room/RoomVersion"
import { EventStore } from "@greenroom/store/EventStore"
import { type StateKey, type StateRef, StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"

/** Which members a client wants: all, or those whose events it is about to show. */
export type WantedMembers = "all" | ReadonlySet<UserId>

export const sameState = (a: StateRef | undefined, b: StateRef | undefined): boolean =>
  a !== undefined && b !== undefined && a.chain === b.chain && a.seq === b.seq

const isWanted = (members: WantedMembers, [type, stateKey]: StateKey): boolean =>
  members === "all" || type !== "m.room.member" || members.has(stateKey as UserId)

export const makeSyncState = Effect.gen(function* () {
  const states = yield* StateStore
  const events = yield* EventStore

  /** The whole state. Of the members only those who are wanted are read. */
  const whole = Effect.fnUntraced(function* (roomNid: number, ref: StateRef, members: WantedMembers) {
    if (members === "all") {
      return (yield* states.read([{ roomNid, ref }])).map(({ event }) => event)
    }
    const keys = yield* states.readIds(ref)
    const wanted = [...keys].filter(([key]) => isWanted(members, splitStateKey(key))).map(([, { id }]) => id)
    return (yield* events.byIds(wanted)).map(({ event }) => event)
  })

  /** The keys in which two states may differ; undefined where they have no past in common. */
  const candidates = Effect.fnUntraced(function* (from: StateRef, to: StateRef) {
    const parted = yield* states.divergence([from, to])
    if (Option.isNone(parted)) return undefined
    return [...new Set(parted.value.changes.flatMap((changes) => [...changes.keys()]))]
  })

  /** The events of `to` that `from` does not have. */
  const changed = Effect.fnUntraced(function* (from: StateRef, to: StateRef) {
    if (sameState(from, to)) return []
    const keys = yield* candidates(from, to)
    if (keys?.length === 0) return []
    const read = (ref: StateRef) => (keys === undefined ? states.readIds(ref) : states.readKeys(ref, keys))
    const [before, after] = yield* Effect.all([read(from), read(to)])
    const ids = [...after].filter(([key, { id }]) => before.get(key)?.id !== id).map(([, { id }]) => id)
    return (yield* events.byIds(ids)).map(({ event }) => event)
  })

  /** The memberships of some users in a state. */
  const members = Effect.fnUntraced(function* (roomNid: number, ref: StateRef, userIds: Iterable<UserId>) {
    const keys = Array.from(userIds, (userId): StateKey => ["m.room.member", userId])
    if (keys.length === 0) return []
    return (yield* states.read([{ roomNid, ref }], { keys })).map(({ event }) => event)
  })

  return {
    /**
     * What a client must know of a state: all of it, or with `known` what has changed since, members included, who may have
     * left in a gap. Members whose events are shown are repeated where members are loaded lazily: the client may not have
     * them.
     */
    tell: Effect.fnUntraced(function* (
      roomNid: number,
      state: StateRef,
      known: StateRef | undefined,
      wanted: WantedMembers
    ): Effect.fn.Return<ReadonlyArray<Event>> {
      if (known === undefined) return yield* whole(roomNid, state, wanted)
      const difference = yield* changed(known, state)
      if (wanted === "all") return difference
      const told = new Set(difference.map(({ event_id }) => event_id))
      const shown = yield* members(roomNid, state, wanted)
      return [...difference, ...shown.filter(({ event_id }) => !told.has(event_id))]
    })
  }
})

export type SyncState = Effect.Success<typeof makeSyncState>
