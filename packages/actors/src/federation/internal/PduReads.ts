/**
 * Events of shared rooms as other servers receive them: single PDUs, states and history, as far as the asking server may see
 * them.
 *
 * Source: "Backfilling and retrieving missing events" and "Retrieving events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore, type StoredEvent } from "@greenroom/store/EventStore"
import { expectEvents } from "@greenroom/store/LargeReads"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { beginning, laterPosition, positionBefore } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { Room } from "../../room/RoomProtocol.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { sliced } from "../../runtime/Slices.ts"
import type { KnownVersions } from "./KnownVersions.ts"
import { makeServerVisibility } from "./ServerVisibility.ts"

/** How many events a server gets at most. */
const maxPage = 100
/** How many hidden events in a row are given with the one that follows them. */
const maxHidden = 5

/** Events of the graph that clients do not receive. */
const isHidden = ({ status }: StoredEvent): boolean =>
  status === EventStatus.softFailed || status === EventStatus.withheld

/** Events that have a place in the history of their room. What precedes others in the log does not precede them in the room. */
const isPlaced = ({ status }: StoredEvent): boolean => status !== EventStatus.rejected && status !== EventStatus.outlier

export const makePduReads = Effect.fnUntraced(function* ({ versionsOf }: KnownVersions) {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client
  const events = yield* EventStore
  const signingKeys = yield* SigningKeys
  const { redactHidden } = yield* makeServerVisibility

  /**
   * Our events are hashed and signed when they leave the server; doing so for many of them lets others go on in between.
   * An event that has no PDU form is logged and left out: the rest must not wait for it.
   */
  const toPdus = Effect.fnUntraced(function* (given: ReadonlyArray<Event>) {
    const key = yield* signingKeys.current
    const versions = yield* versionsOf(given.map(({ room_id }) => room_id))
    const { failed, pdus } = yield* sliced(function* () {
      const pdus: Array<JsonObject> = []
      const failed: Array<readonly [EventId, unknown]> = []
      for (const event of given) {
        try {
          const version = versions.get(event.room_id)
          if (version === undefined) throw new Error(`the version of ${event.room_id} is not known`)
          const isUnsigned = event.origin === serverName && event.signatures[serverName] === undefined
          pdus.push(version.toPdu(isUnsigned ? version.sign(event, key) : event))
        } catch (error) {
          failed.push([event.event_id, error])
        }
        yield
      }
      return { pdus, failed }
    })
    for (const [id, error] of failed) yield* Effect.logError(`${id} cannot be made a PDU and is not sent`, error)
    return pdus
  })

  /** Events that the server may not see are redacted. */
  const visiblePdus = Effect.fnUntraced(function* (origin: ServerName, given: ReadonlyArray<StoredEvent>) {
    const versions = yield* versionsOf(given.map(({ event }) => event.room_id))
    const key = yield* signingKeys.current
    // The hash of the draft is made with the signature, and covers what redaction takes away.
    const signed = given.map((storedEvent) => {
      const { event } = storedEvent
      const isUnsigned = event.origin === serverName && event.signatures[serverName] === undefined
      return isUnsigned
        ? { ...storedEvent, event: versions.get(event.room_id)?.sign(event, key) ?? event }
        : storedEvent
    })
    return yield* toPdus(yield* redactHidden(origin, signed, versions))
  })

  const requireServer = (origin: ServerName, roomId: RoomId): Effect.Effect<void, MatrixError> =>
    ask(room(roomId).RequireServer({ origin }))

  const getPdu = Effect.fn("FederationRooms.getPdu")(function* (origin: ServerName, eventId: EventId) {
    const stored = (yield* events.byIds([eventId]))[0]
    const missing = new NotFound({ error: `There is no PDU ${eventId}` })
    if (stored === undefined) return yield* missing
    yield* Effect.mapError(requireServer(origin, stored.event.room_id), () => missing)
    return (yield* visiblePdus(origin, [stored]))[0]!
  })

  const getState = Effect.fn("FederationRooms.getState")(function* (origin: ServerName, roomId: RoomId, at?: EventId) {
    const { authChain, state } = yield* ask(room(roomId).GetState({ origin, ...(at === undefined ? {} : { at }) }))
    return { pdus: yield* toPdus(state), auth_chain: yield* toPdus(authChain) }
  })

  const getStateIds = Effect.fn("FederationRooms.getStateIds")(function* (
    origin: ServerName,
    roomId: RoomId,
    at: EventId
  ) {
    const { authChain, state } = yield* ask(room(roomId).GetState({ origin, at }))
    const idsOf = (given: ReadonlyArray<Event>) => given.map(({ event_id }) => event_id)
    return { pdu_ids: idsOf(state), auth_chain_ids: idsOf(authChain) }
  })

  /** The events of a page behind `from`, and behind each event the hidden ones that it follows: the receiver would look for these. */
  const withHidden = Effect.fnUntraced(function* (
    roomNid: number,
    from: ReadonlyArray<StoredEvent>,
    page: ReadonlyArray<StoredEvent>,
    limit: number
  ) {
    const seen = new Set([...from, ...page].map(({ event }) => event.event_id))
    const hidden = new Map<EventId, StoredEvent>()
    let edge: ReadonlyArray<StoredEvent> = [...from, ...page]
    for (let round = 0; round < maxHidden && edge.length > 0; round++) {
      const before = new Set(edge.flatMap(({ event }) => event.prev_events).filter((id) => !seen.has(id)))
      for (const id of before) seen.add(id)
      yield* expectEvents(hidden.size + before.size)
      edge = (yield* events.byIds([...before].slice(0, limit))).filter(
        (stored) => stored.roomNid === roomNid && isHidden(stored)
      )
      for (const stored of edge) hidden.set(stored.event.event_id, stored)
    }
    const all: Array<StoredEvent> = []
    const addHidden = ({ event }: StoredEvent): void => {
      for (const id of event.prev_events) {
        const before = hidden.get(id)
        if (before === undefined) continue
        hidden.delete(id)
        all.push(before)
        addHidden(before)
      }
    }
    for (const stored of from) addHidden(stored)
    for (const stored of page) {
      all.push(stored)
      addHidden(stored)
    }
    return all
  })

  const backfill = Effect.fn("FederationRooms.backfill")(function* (
    origin: ServerName,
    roomId: RoomId,
    from: ReadonlyArray<EventId>,
    limit: number
  ) {
    yield* requireServer(origin, roomId)
    const known = (yield* events.byIds(from)).filter(
      (storedEvent) => storedEvent.event.room_id === roomId && isPlaced(storedEvent)
    )
    const roomNid = known[0]?.roomNid
    if (roomNid === undefined) return []
    const most = Math.min(limit, maxPage)
    const newest = known.map((storedEvent) => storedEvent.position).reduce(laterPosition)
    const upTo = positionBefore(newest)
    const named = new Set(from)
    const ids = yield* events.timelineIds({ roomNid, after: beginning, upTo }, "b", most + named.size)
    const page = ids.filter((id) => !named.has(id)).slice(0, most)
    const found = new Map(
      (yield* events.byIds(page)).map((storedEvent) => [storedEvent.event.event_id, storedEvent] as const)
    )
    const stored = page.flatMap((id) => found.get(id) ?? [])
    return yield* visiblePdus(origin, (yield* withHidden(roomNid, known, stored, most)).slice(0, most))
  })

  return { backfill, getPdu, getState, getStateIds, requireServer, toPdus, visiblePdus }
})

export type PduReads = Effect.Success<ReturnType<typeof makePduReads>>
