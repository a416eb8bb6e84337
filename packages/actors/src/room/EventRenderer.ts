/**
 * Events as clients of today receive them, with what depends on the reader: the redaction that stripped an event, and the
 * transaction ID by which the asking device sent it.
 *
 * Source: "Room event format" of the client-server specification.
 */
import { type ClientServerEvent, toClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { StreamedEvent } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { comparePositions, type StreamPosition, theEnd } from "@greenroom/store/StreamToken"
import { Clock, Effect } from "effect"
import { delayedTokenId, type Session } from "../runtime/Session.ts"
import { sliced } from "../runtime/Slices.ts"
import type { Reader } from "./HistoryVisibility.ts"
import { makeAggregations } from "./internal/Aggregations.ts"

/** The reader of the events, and the form in which they are rendered. */
export interface RenderOptions {
  /** Leaves `room_id` out, because the answer names the room. */
  readonly withoutRoomId?: boolean
  /** Bundles what relates to the events, as far as this reader of their room may see it. */
  readonly bundleFor?: Reader | undefined
  /** Renders the events as PDUs, with the annotations of clients beside. */
  readonly toPdu?: ((event: Event) => JsonObject) | undefined
  /** The user's membership at each of the events, as far as it is known. */
  readonly memberships?: ReadonlyArray<string | undefined> | undefined
  /** Takes the wanted fields of the rendered events. */
  readonly pick?: ((event: ClientServerEvent) => ClientServerEvent) | undefined
}

/** How many events are rendered without other work in between, in about a millisecond: a pause costs a small answer more than that. */
const renderedAtOnce = 4_096

/** Events that are rendered alike. */
export interface RenderedList extends RenderOptions {
  readonly events: ReadonlyArray<Event>
}

/** The transaction ID of an event, for the device that sent it. */
const transactionIdFor = ({ tokenId }: Session, { unsigned }: Event): string | undefined =>
  unsigned?.transaction?.tokenId === tokenId ? unsigned.transaction.txnId : undefined

/** The ID of a delayed event, for its author. */
const delayIdFor = ({ userId }: Session, { sender, unsigned }: Event): string | undefined =>
  sender === userId && unsigned?.transaction?.tokenId === delayedTokenId ? unsigned.transaction.txnId : undefined

const asPdu = (pdu: JsonObject, { unsigned }: ClientServerEvent) =>
  ({ ...pdu, ...(unsigned === undefined ? {} : { unsigned }) }) as unknown as ClientServerEvent

export const makeEventRenderer = Effect.gen(function* () {
  const events = yield* EventStore
  const aggregations = yield* makeAggregations

  /** The redactions that stripped these events, by their IDs. */
  const redactionsOf = Effect.fnUntraced(function* (shown: ReadonlyArray<Event>) {
    const ids: Array<EventId> = []
    for (const { unsigned } of shown) if (unsigned?.redacted_because !== undefined) ids.push(unsigned.redacted_because)
    if (ids.length === 0) return new Map<EventId, Event>()
    return new Map((yield* events.byIds(ids)).map(({ event }) => [event.event_id, event]))
  })

  /** Renders the events of several rooms, or several lists of one room, with as many queries as for one. */
  const renderLists = Effect.fnUntraced(function* (
    session: Session,
    lists: ReadonlyArray<RenderedList>
  ): Effect.fn.Return<ReadonlyArray<ReadonlyArray<ClientServerEvent>>> {
    const all = lists.flatMap(({ events }) => events)
    if (all.length === 0) return lists.map(() => [])
    const now = yield* Clock.currentTimeMillis
    const redactions = yield* redactionsOf(all)
    const bundled = lists.flatMap(({ bundleFor: reader, events }) =>
      reader === undefined ? [] : events.map((event) => ({ event, reader }))
    )
    const bundles = yield* aggregations.of(bundled, (event, relations) =>
      toClientServerEvent(event, {
        now,
        transactionId: transactionIdFor(session, event),
        delayId: delayIdFor(session, event),
        relations
      })
    )
    const part = ({ bundleFor, events, memberships, pick, toPdu, withoutRoomId }: RenderedList, from: number) =>
      events.slice(from, from + renderedAtOnce).map((event, index) => {
        const rendered = toClientServerEvent(event, {
          now,
          withoutRoomId,
          redactedBecause: event.unsigned?.redacted_because && redactions.get(event.unsigned.redacted_because),
          transactionId: transactionIdFor(session, event),
          membership: memberships?.[from + index],
          delayId: delayIdFor(session, event),
          relations: bundleFor === undefined ? undefined : bundles.get(event.event_id)
        })
        const formed = toPdu === undefined ? rendered : asPdu(toPdu(event), rendered)
        return pick === undefined ? formed : pick(formed)
      })
    if (all.length <= renderedAtOnce) return lists.map((list) => part(list, 0))
    return yield* sliced(function* () {
      const rendered: Array<ReadonlyArray<ClientServerEvent>> = []
      for (const list of lists) {
        const parts: Array<ReadonlyArray<ClientServerEvent>> = []
        for (let from = 0; from < list.events.length; from += renderedAtOnce) {
          parts.push(part(list, from))
          yield
        }
        rendered.push(parts.flat())
      }
      return rendered
    })
  })

  const render = (session: Session, events: ReadonlyArray<Event>, options: RenderOptions = {}) =>
    Effect.map(renderLists(session, [{ ...options, events }]), (lists) => lists[0]!)

  /** The reader's membership at each of the room's events, by the order of the log. */
  const membershipsAt = Effect.fnUntraced(function* (
    { roomNid, userId }: Reader,
    positions: ReadonlyArray<StreamPosition>
  ) {
    const changes = yield* events.membershipHistory(userId, theEnd, roomNid)
    return positions.map(
      (position) =>
        changes.findLast((change) => comparePositions(change.position, position) <= 0)?.membership ?? "leave"
    )
  })

  /** Renders events of a room with what relates to them, and with the membership that their reader had at each. */
  const renderTimeline = Effect.fnUntraced(function* (
    session: Session,
    reader: Reader,
    entries: ReadonlyArray<Pick<StreamedEvent, "event" | "position">>
  ) {
    if (entries.length === 0) return []
    return yield* render(
      session,
      entries.map(({ event }) => event),
      {
        bundleFor: reader,
        memberships: yield* membershipsAt(
          reader,
          entries.map(({ position }) => position)
        )
      }
    )
  })

  return { render, renderLists, renderTimeline }
})

/** Renders stored events as clients receive them. */
export type EventRenderer = Effect.Success<typeof makeEventRenderer>
