/**
 * The summaries of rooms in `/sync`: counts of members, and heroes where the room has no name.
 *
 * Source: "Syncing" of the client-server specification, `summary`.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import type { SyncedRoom } from "../SyncAnswer.ts"
import { concurrencyOf, type Reading, type SyncRange } from "./SyncRange.ts"

const maxHeroes = 5

/** Types of state that name a room. */
const nameTypes: ReadonlySet<string> = new Set(["m.room.name", "m.room.canonical_alias"])

/** Whether an event may change the summary of its room: its counts and heroes. */
export const isOfSummary = ({ type }: Pick<Event, "type">): boolean => type === "m.room.member" || nameTypes.has(type)

const isFilled = (value: unknown): boolean => typeof value === "string" && value !== ""

/** Whether an event gives its room a name: clients need no heroes then. */
const isNaming = ({ content, type }: Event): boolean =>
  type === "m.room.name" ? isFilled(content.name) : type === "m.room.canonical_alias" && isFilled(content.alias)

export type Summary = NonNullable<SyncedRoom["summary"]>

export const makeSyncSummaries = Effect.gen(function* () {
  const store = yield* SyncStore
  const states = yield* StateStore

  /** The rooms that have a name or an alias in the states at their ends. */
  const namedRooms = Effect.fnUntraced(function* (
    rooms: ReadonlyArray<Reading>,
    ends: ReadonlyMap<number, StateRef>
  ): Effect.fn.Return<ReadonlySet<number>> {
    const wanted = rooms.flatMap(({ roomNid }) => {
      const ref = ends.get(roomNid)
      return ref === undefined ? [] : [{ roomNid, ref }]
    })
    const keys = Array.from(nameTypes, (type) => [type, ""] as const)
    const entries = wanted.length === 0 ? [] : yield* states.read(wanted, { keys })
    return new Set(entries.filter(({ event }) => isNaming(event)).map(({ roomNid }) => roomNid))
  })

  /** The summaries of rooms with the states at their ends, by the numbers of the rooms. */
  const readSummaries = Effect.fnUntraced(function* (
    range: SyncRange,
    rooms: ReadonlyArray<Reading>,
    ends: ReadonlyMap<number, StateRef>
  ): Effect.fn.Return<ReadonlyMap<number, Summary>> {
    if (rooms.length === 0) return new Map()
    const roomNids = rooms.map(({ roomNid }) => roomNid)
    const [counts, named] = yield* Effect.all([store.memberCounts(roomNids), namedRooms(rooms, ends)], {
      concurrency: concurrencyOf(range)
    })
    const unnamed = roomNids.filter((roomNid) => !named.has(roomNid))
    const heroes = yield* store.heroes(range.session.userId, unnamed, maxHeroes)
    return new Map(
      roomNids.map((roomNid) => [
        roomNid,
        {
          ...(named.has(roomNid) ? {} : { "m.heroes": heroes.get(roomNid) ?? [] }),
          "m.joined_member_count": counts.get(roomNid)?.joined ?? 0,
          "m.invited_member_count": counts.get(roomNid)?.invited ?? 0
        }
      ])
    )
  })

  return { readSummaries }
})
