/**
 * How a PDU is named in the paths and queries of the federation API, `pduId,origin`, and in the answers to a
 * transaction. Inside the server the same is an event ID, `$pduId:origin`.
 *
 * Source: "PDUs and EDUs" of the draft.
 */
import { Option, Schema, SchemaTransformation } from "effect"
import {
  type EventId,
  formatEventId,
  isEventId,
  isServerName,
  localpartOf,
  type ServerName,
  serverPartOf
} from "../Identifiers.ts"

/** The event of a pair of PDU ID and origin; none if that is no event ID. */
export const eventIdOf = (pduId: string, origin: string): Option.Option<EventId> => {
  if (pduId.includes(":") || !isServerName(origin)) return Option.none()
  const id = formatEventId(pduId, origin as ServerName)
  return isEventId(id) ? Option.some(id) : Option.none()
}

/** Reads `pduId,origin`. */
export const parsePduReference = (text: string): Option.Option<EventId> => {
  const comma = text.lastIndexOf(",")
  return comma < 1 ? Option.none() : eventIdOf(text.slice(0, comma), text.slice(comma + 1))
}

/** `pduId,origin` of an event. */
export const formatPduReference = (id: EventId): string => `${localpartOf(id)},${serverPartOf(id)}`

const isPduReference = Schema.makeFilter(
  (text: string) => Option.isSome(parsePduReference(text)) || "Expected a PDU, such as pduId,example.org",
  { toJsonSchema: () => [{ pattern: "^[^:]+,.+$", maxLength: 255 }, true] }
)

/** `pduId,origin` on the wire, an event ID inside. */
export const PduReference: Schema.Codec<EventId, string> = Schema.String.check(isPduReference).pipe(
  Schema.decodeTo(
    Schema.String as unknown as Schema.Codec<EventId>,
    SchemaTransformation.transform({
      decode: (text: string) => Option.getOrThrow(parsePduReference(text)),
      encode: formatPduReference
    })
  )
)
