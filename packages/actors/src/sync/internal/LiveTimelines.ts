/**
 * Timelines for answers from memory, rendered and encoded once for all users that wait in a room. The membership of a sender is read
 * once for all clients.
 */
import { compileFilter, type Filter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { EventLog } from "@greenroom/store/EventLog"
import { withoutAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type StateRef, StateStore } from "@greenroom/store/StateStore"
import { formatToken, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { makeEventRenderer } from "../../room/EventRenderer.ts"
import type { Session } from "../../runtime/Session.ts"
import { type SyncedRoom, shared } from "../SyncAnswer.ts"
import type { FeedEntry } from "./FeedEntry.ts"
import type { SentMembers } from "./SentMembers.ts"

/** What a waiting client asks for. */
export interface LiveRange {
  readonly session: Session
  readonly filter: Filter
  readonly since: StreamPosition
  readonly stateAfter: boolean
  /** The name of a device that gets a membership once (`lazyDevice`). */
  readonly lazyDevice: string | undefined
}

/** How many memberships of senders are remembered. */
const maxMembers = 2_000

/** How long the shared updates of a room stay encoded, in ms, and of how many rooms: their `age` is that of the encoding. */
const sharedFor = 1_000
const maxShared = 500

/** The part of a room's news that is the same for all users but their senders. */
export type RoomParts = Pick<SyncedRoom, "timeline"> & {
  readonly state: NonNullable<SyncedRoom["state"]>
  /** The memberships that are the state. */
  readonly members: ReadonlyArray<Event>
}

const nothing: RoomParts["state"] = { events: [] }

interface SharedPart {
  readonly at: number
  readonly parts: Effect.Effect<RoomParts>
  /** The same, once they are there. */
  rendered?: RoomParts
}

export const makeLiveTimelines = Effect.fnUntraced(function* (sentMembers: SentMembers) {
  const log = yield* EventLog
  const states = yield* StateStore
  const renderer = yield* makeEventRenderer

  const token = (position: StreamPosition) => formatToken({ position, epoch: log.epoch() })

  /** Memberships of senders in a state. */
  const members = new Map<string, Effect.Effect<Event | undefined>>()
  const memberOf = (roomNid: number, ref: StateRef, sender: UserId) =>
    Effect.suspend(() => {
      const key = `${ref.chain}.${ref.seq} ${sender}`
      const known = members.get(key)
      if (known !== undefined) return known
      const read = states.read([{ roomNid, ref }], { keys: [["m.room.member", sender]] })
      const found = Effect.runSync(Effect.cached(withoutAllowance(Effect.map(read, ([entry]) => entry?.event))))
      setNewest(members, key, found, maxMembers)
      return Effect.onError(found, () => Effect.sync(() => members.delete(key)))
    })

  /** The shared part of the answers to users that wait in a room, for a moment. */
  const recentParts = new Map<string, SharedPart>()

  /** The timeline and the memberships of its senders. */
  const renderParts = Effect.fnUntraced(function* (
    { filter, session }: LiveRange,
    entries: ReadonlyArray<FeedEntry>
  ): Effect.fn.Return<RoomParts> {
    const { position, roomNid, stateAt } = entries[0]!
    const events = entries.map(({ event }) => event)
    const wantsMembers = filter.room?.state?.lazy_load_members === true
    const senders = wantsMembers ? [...new Set(events.map(({ sender }) => sender))] : []
    const found = yield* Effect.forEach(senders, (sender) => memberOf(roomNid, stateAt!, sender))
    const passes = compileFilter(filter.room?.state)
    const members = found.filter((event) => event !== undefined && passes(event)) as ReadonlyArray<Event>
    const [timeline, state] = yield* renderer.renderLists(session, [
      { events: events, withoutRoomId: true, memberships: events.map(() => "join") },
      { events: members, withoutRoomId: true }
    ])
    return {
      timeline: {
        events: timeline!,
        limited: false,
        prev_batch: token(positionBefore(position))
      },
      state: { events: state! },
      members
    }
  })

  const isOwn = ({ session }: LiveRange, entries: ReadonlyArray<FeedEntry>): boolean =>
    entries.some(({ event }) => event.sender === session.userId)

  const keyOf = ({ filter }: LiveRange, entries: ReadonlyArray<FeedEntry>): string =>
    `${entries[0]!.roomNid} ${entries.map(({ position }) => position.nid).join(" ")} ${JSON.stringify(filter.room?.state ?? null)}`

  /** The parts that were rendered for others a moment ago. `now`: monotonic, in ms. */
  const cached = (range: LiveRange, entries: ReadonlyArray<FeedEntry>, now: number): RoomParts | undefined => {
    if (isOwn(range, entries)) return undefined
    const known = recentParts.get(keyOf(range, entries))
    return known !== undefined && now - known.at < sharedFor ? known.rendered : undefined
  }

  /** The parts of a room's news, rendered and encoded once for all users but those who sent one of the events. */
  const read = Effect.fnUntraced(function* (
    range: LiveRange,
    entries: ReadonlyArray<FeedEntry>
  ): Effect.fn.Return<RoomParts> {
    if (isOwn(range, entries)) return yield* renderParts(range, entries)
    const key = keyOf(range, entries)
    const now = yield* monotonicMillis
    const known = recentParts.get(key)
    if (known !== undefined && now - known.at < sharedFor) return yield* known.parts
    const rendered = Effect.map(renderParts(range, entries), ({ members, state, timeline }): RoomParts => {
      part.rendered = { timeline: shared(timeline), state: shared(state), members }
      return part.rendered
    })
    const part: SharedPart = { at: now, parts: Effect.runSync(Effect.cached(withoutAllowance(rendered))) }
    setNewest(recentParts, key, part, maxShared)
    return yield* Effect.onError(part.parts, () => Effect.sync(() => recentParts.delete(key)))
  })

  /** The memberships of senders, unless the client has all of them. */
  const newMembers = (
    { lazyDevice, since }: LiveRange,
    roomNid: number,
    { members, state }: RoomParts,
    upTo: StreamPosition
  ): RoomParts["state"] => {
    if (lazyDevice === undefined) return state
    if (members.every((event) => sentMembers.has(lazyDevice, roomNid, event, since))) return nothing
    sentMembers.note(lazyDevice, roomNid, members, upTo)
    return state
  }

  return { cached, read, newMembers }
})
