/**
 * The results of a search in their form for clients: the matching events with those around them, the profiles of their senders, and
 * the states of their rooms.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { EventLog } from "@greenroom/store/EventLog"
import { expectEvents } from "@greenroom/store/LargeReads"
import { profileOfMember } from "@greenroom/store/ProfileStore"
import { StateStore } from "@greenroom/store/StateStore"
import { beginning, positionBefore, theEnd } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { makeEventRenderer } from "../EventRenderer.ts"
import { noScan, type RoomViewer } from "./RoomViewer.ts"
import type { Found } from "./SearchMatches.ts"

/** The events around a result that a client requests. */
export interface WantedContext {
  readonly before_limit?: number | null | undefined
  readonly after_limit?: number | null | undefined
  readonly include_profile?: boolean | null | undefined
}

interface ContextOfResult {
  readonly start: string
  readonly end: string
  readonly events_before: ReadonlyArray<ClientServerEvent>
  readonly events_after: ReadonlyArray<ClientServerEvent>
  readonly profile_info?: JsonObject
}

/** A match, with the events around it where they are requested. */
export interface SearchResult {
  readonly rank: number
  readonly result: ClientServerEvent
  readonly context?: ContextOfResult
}

/** How many events before and after a result are given, and at most. */
const defaultContext = 5
const maxContext = 25

/** How many bytes may be read for the events around all results. The last results lack theirs then. */
const maxContextBytes = 4 * 1024 * 1024

const limitOf = (given: number | null | undefined) => Math.min(given ?? defaultContext, maxContext)
const nothing = noScan(undefined)

/** How many bytes may still be read. */
interface Budget {
  left: number
}

export const makeSearchResults = Effect.fnUntraced(function* ({ scan, stateOf }: RoomViewer) {
  const log = yield* EventLog
  const states = yield* StateStore
  const renderer = yield* makeEventRenderer

  const profilesOf = Effect.fnUntraced(function* ({ stored, view: seen }: Found, senders: ReadonlyArray<UserId>) {
    const ref = stored.stateBefore ?? seen.state
    const keys = [...new Set(senders)].map((sender) => ["m.room.member", sender] as const)
    const members = yield* states.read([{ roomNid: seen.reader.roomNid, ref }], { keys })
    return Object.fromEntries(
      members.map(({ event: { content, state_key } }) => [state_key, profileOfMember(content)])
    ) as JsonObject
  })

  const contextOf = Effect.fnUntraced(function* (
    session: Session,
    hit: Found,
    wanted: WantedContext,
    budget: Budget
  ): Effect.fn.Return<ContextOfResult> {
    const { stored, view: seen } = hit
    const isOver = budget.left <= 0
    const [older, newer] = isOver ? [0, 0] : [limitOf(wanted.before_limit), limitOf(wanted.after_limit)]
    const past = { after: beginning, upTo: positionBefore(stored.position) }
    const future = { after: stored.position, upTo: theEnd }
    const earlier = older === 0 ? nothing : yield* scan(seen.reader, past, "b", older, undefined)
    const later = newer === 0 ? nothing : yield* scan(seen.reader, future, "f", newer, undefined)
    budget.left -= earlier.bytes + later.bytes
    const [first, last] = [earlier.found.at(-1) ?? stored, later.found.at(-1) ?? stored]
    const around = [...earlier.found, stored, ...later.found].map(({ event }) => event.sender)
    return {
      start: yield* log.tokenOf(positionBefore(first.position)),
      end: yield* log.tokenOf(last.position),
      events_before: yield* renderer.render(
        session,
        earlier.found.map(({ event }) => event)
      ),
      events_after: yield* renderer.render(
        session,
        later.found.map(({ event }) => event)
      ),
      ...(wanted.include_profile ? { profile_info: yield* profilesOf(hit, around) } : {})
    }
  })

  /** A match as clients get it. */
  const resultOf = Effect.fnUntraced(function* (
    session: Session,
    found: Found,
    wanted: WantedContext | undefined,
    budget: Budget
  ) {
    const { hit, stored, view: seen } = found
    const [result] = yield* renderer.renderTimeline(session, seen.reader, [stored])
    return {
      rank: hit.rank,
      result: result!,
      ...(wanted === undefined ? {} : { context: yield* contextOf(session, found, wanted, budget) })
    }
  })

  /** The matches as clients get them. */
  const resultsOf = Effect.fnUntraced(function* (
    session: Session,
    found: ReadonlyArray<Found>,
    wanted: WantedContext | undefined
  ) {
    const around = wanted === undefined ? 0 : limitOf(wanted.before_limit) + limitOf(wanted.after_limit)
    yield* expectEvents(found.length * (1 + around))
    const budget = { left: maxContextBytes }
    return yield* Effect.forEach(found, (match) => resultOf(session, match, wanted, budget))
  })

  /** The states of the rooms of the matches. */
  const stateOfRooms = Effect.fnUntraced(function* (session: Session, found: ReadonlyArray<Found>) {
    const rooms = new Map(found.map(({ stored, view: seen }) => [stored.event.room_id, seen]))
    const entries = yield* Effect.forEach(rooms, ([roomId, seen]) =>
      Effect.map(
        Effect.flatMap(stateOf(seen), (state) => renderer.render(session, state)),
        (state) => [roomId, state] as const
      )
    )
    return Object.fromEntries(entries)
  })

  return { resultsOf, stateOfRooms }
})
