/**
 * Events as clients of today receive them, with what depends on who asks: the redaction that stripped an event, and the
 * transaction ID by which the asking device sent it.
 *
 * Source: "Room event format" of the client-server specification.
 */
import { type ClientServerEvent, toClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { EventStore } from "@greenroom/store/EventStore"
import { Clock, Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { makeAggregations } from "./Aggregations.ts"

export interface RenderOptions {
  /** The answer says of which room the events are. */
  readonly withoutRoomId?: boolean
  /** Bundles what relates to the events, which are all of the room with this number. */
  readonly bundleIn?: number | undefined
  /** Renders the events as PDUs, with the annotations of clients beside. */
  readonly toPdu?: ((event: Event) => JsonObject) | undefined
  /** Takes the wanted fields of the rendered events. */
  readonly pick?: ((event: ClientServerEvent) => ClientServerEvent) | undefined
}

/** The transaction ID of an event, for the device that sent it. */
const transactionIdFor = ({ tokenId }: Session, { unsigned }: Event): string | undefined =>
  unsigned?.transaction?.tokenId === tokenId ? unsigned.transaction.txnId : undefined

const asPdu = (pdu: JsonObject, { unsigned }: ClientServerEvent) =>
  ({ ...pdu, ...(unsigned === undefined ? {} : { unsigned }) }) as unknown as ClientServerEvent

export const makeEventRenderer = Effect.gen(function* () {
  const events = yield* EventStore
  const aggregations = yield* makeAggregations

  /** The redactions that stripped these events, by their IDs. */
  const redactionsOf = Effect.fnUntraced(function* (shown: ReadonlyArray<Event>) {
    const ids = shown.flatMap(({ unsigned }) => unsigned?.redacted_because ?? [])
    if (ids.length === 0) return new Map<EventId, Event>()
    return new Map((yield* events.byIds(ids)).map(({ event }) => [event.event_id, event]))
  })

  const render = Effect.fnUntraced(function* (
    session: Session,
    shown: ReadonlyArray<Event>,
    { bundleIn, pick, toPdu, withoutRoomId }: RenderOptions = {}
  ): Effect.fn.Return<ReadonlyArray<ClientServerEvent>> {
    if (shown.length === 0) return []
    const now = yield* Clock.currentTimeMillis
    const redactions = yield* redactionsOf(shown)
    const bundles = bundleIn === undefined ? undefined : yield* aggregations.of(session.userId, bundleIn, shown, now)
    return shown.map((event) => {
      const rendered = toClientServerEvent(event, {
        now,
        withoutRoomId,
        redactedBecause: event.unsigned?.redacted_because && redactions.get(event.unsigned.redacted_because),
        transactionId: transactionIdFor(session, event),
        relations: bundles?.get(event.event_id)
      })
      const formed = toPdu === undefined ? rendered : asPdu(toPdu(event), rendered)
      return pick === undefined ? formed : pick(formed)
    })
  })

  return { render }
})

export type EventRenderer = Effect.Success<typeof makeEventRenderer>
