/**
 * The state of rooms in `/sync`: the state before the first event of the timeline, or after the last one, that the client
 * did not have at its position.
 *
 * Source: "Syncing" and "Lazy-loading room members" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventStore } from "@greenroom/store/EventStore"
import { type StateEntry, type StateKey, type StateRef, StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"

/** The memberships that a client wants: all, or those of the senders of events in the timeline. */
export type WantedMembers = "all" | ReadonlySet<UserId>

export const sameState = (a: StateRef | undefined, b: StateRef | undefined): boolean =>
  a !== undefined && b !== undefined && a.chain === b.chain && a.seq === b.seq

/** A state to send, the state that the client has, and the members that it wants. */
export interface WantedState {
  readonly roomNid: number
  readonly state: StateRef
  readonly known: StateRef | undefined
  readonly members: WantedMembers
  /** How many users have or had a membership in the room, if that is known. */
  readonly users?: number | undefined
  /** Whether the client has a membership, which did not change since then. */
  readonly has?: ((membership: Event) => boolean) | undefined
}

/** Whether a room has so few members who are not wanted that its state is read whole: a key by itself takes twice as long. */
const isReadWhole = ({ members, users = Number.POSITIVE_INFINITY }: WantedState): boolean =>
  members === "all" || users <= 2 * members.size

export const makeSyncState = Effect.gen(function* () {
  const states = yield* StateStore
  const events = yield* EventStore

  /** The states of rooms, with those members who are wanted. */
  const wholes = Effect.fnUntraced(function* (wanted: ReadonlyArray<WantedState>) {
    const whole = wanted.filter(isReadWhole)
    const lazy = wanted.filter((room) => !isReadWhole(room))
    const refs = (rooms: ReadonlyArray<WantedState>) => rooms.map(({ roomNid, state }) => ({ roomNid, ref: state }))
    const [complete, rest, members] = yield* Effect.all(
      [states.read(refs(whole)), states.read(refs(lazy), { except: "m.room.member" }), membersOf(lazy)],
      { concurrency: 2 }
    )
    const wantedIn = new Map(whole.map(({ members, roomNid }) => [roomNid, members]))
    const isWanted = ({ event: { state_key, type }, roomNid }: StateEntry) => {
      const wantedMembers = type === "m.room.member" ? wantedIn.get(roomNid)! : "all"
      return wantedMembers === "all" || wantedMembers.has(state_key as UserId)
    }
    return [...complete.filter(isWanted), ...rest, ...members]
  })

  /** The keys in which two states may differ; undefined if they have no past in common. */
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

  /** The memberships of the wanted users in the states of rooms. */
  const membersOf = (wanted: ReadonlyArray<WantedState>) =>
    states.readEach(
      wanted.map(({ members, roomNid, state }) => ({
        roomNid,
        ref: state,
        keys: members === "all" ? [] : Array.from(members, (userId): StateKey => ["m.room.member", userId])
      }))
    )

  const eventsByRoom = (entries: ReadonlyArray<StateEntry>) => {
    const found = new Map<number, Array<Event>>()
    for (const { event, roomNid } of entries) {
      const events = found.get(roomNid)
      if (events === undefined) found.set(roomNid, [event])
      else events.push(event)
    }
    return found
  }

  /**
   * The state that a client needs of rooms, by their numbers: all of it, or with `known` the changes since then, including
   * members that may have left in a gap. With lazy loading the members whose events are shown are among it if the client does not
   * have them.
   *
   * States that are new to the client, or did not change, take a few queries for all rooms together.
   */
  const readStates = Effect.fnUntraced(function* (
    wanted: ReadonlyArray<WantedState>
  ): Effect.fn.Return<ReadonlyMap<number, ReadonlyArray<Event>>> {
    const isKnown = ({ known }: WantedState) => known !== undefined
    const fresh = wanted.filter((room) => !isKnown(room))
    const others = wanted.filter(isKnown)
    const found = eventsByRoom(fresh.length === 0 ? [] : yield* wholes(fresh))
    if (others.length === 0) return found
    const shown = eventsByRoom(yield* membersOf(others))
    for (const { has = () => false, known, roomNid, state } of others) {
      const difference = yield* changed(known!, state)
      const ids = new Set(difference.map(({ event_id }) => event_id))
      const members = (shown.get(roomNid) ?? []).filter((event) => !ids.has(event.event_id) && !has(event))
      found.set(roomNid, [...difference, ...members])
    }
    return found
  })

  return {
    readStates,
    /** The memberships of the wanted users in the states of rooms, by the numbers of the rooms. */
    readMembers: (wanted: ReadonlyArray<WantedState>) => Effect.map(membersOf(wanted), eventsByRoom),
    /** The same of one room. */
    readState: (roomNid: number, state: StateRef, known: StateRef | undefined, members: WantedMembers) =>
      Effect.map(readStates([{ roomNid, state, known, members }]), (found) => found.get(roomNid) ?? [])
  }
})

export type SyncState = Effect.Success<typeof makeSyncState>
