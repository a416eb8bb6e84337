/**
 * Filters: which events, of which rooms and senders, an answer is to have. A filter comes from a client, so its lists are
 * bounded; a pattern of types may have `*`.
 *
 * Source: "Filtering" of the client-server specification.
 */
import { Schema } from "effect"
import type { Event } from "../Event.ts"
import { matchesGlob, parseGlob } from "../Glob.ts"
import { isJsonObject, nullable } from "../Json.ts"

/** The most entries of one list of a filter. */
const maxEntries = 1_000

const texts = Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String).check(Schema.isMaxLength(maxEntries))))

/** The most entries of a list each of which takes time for every event: patterns of types, and fields. */
const maxSlowEntries = 50

const fewFields = Schema.optionalKey(
  Schema.NullOr(Schema.Array(Schema.String).check(Schema.isMaxLength(maxSlowEntries)))
)

const isPattern = (type: string): boolean => type.includes("*")

const types = Schema.optionalKey(
  Schema.NullOr(
    Schema.Array(Schema.String).check(
      Schema.isMaxLength(maxEntries),
      Schema.makeFilter(
        (types) => types.filter(isPattern).length <= maxSlowEntries || `Expected at most ${maxSlowEntries} patterns`
      )
    )
  )
)
const idsWith = (sigil: string, expected: string) =>
  Schema.optionalKey(
    Schema.NullOr(
      Schema.Array(
        Schema.String.check(Schema.makeFilter((id) => id.startsWith(sigil) || `Expected ${expected}`))
      ).check(Schema.isMaxLength(maxEntries))
    )
  )
const users = idsWith("@", "a user ID, such as @alice:example.org")
const rooms = idsWith("!", "a room ID, such as !abc:example.org")
const flag = Schema.optionalKey(Schema.NullOr(Schema.Boolean))
const limit = Schema.optionalKey(
  Schema.NullOr(Schema.Number.check(Schema.isInt({ expected: "an integer" }), Schema.isGreaterThanOrEqualTo(0)))
)

const eventFilterFields = { limit, types, not_types: types, senders: users, not_senders: users }

/** Selects events by type and sender. */
export const EventFilter = Schema.Struct(eventFilterFields).annotate({ identifier: "EventFilter" })
export type EventFilter = typeof EventFilter.Type

/** Selects events of rooms, also by room, URL and relation. */
export const RoomEventFilter = Schema.Struct({
  ...eventFilterFields,
  rooms,
  not_rooms: rooms,
  contains_url: flag,
  lazy_load_members: flag,
  include_redundant_members: flag,
  unread_thread_notifications: flag,
  related_by_senders: texts,
  related_by_rel_types: texts,
  // MSC3874: selects by the relation of the event itself.
  "org.matrix.msc3874.rel_types": texts,
  "org.matrix.msc3874.not_rel_types": texts
}).annotate({ identifier: "RoomEventFilter" })
export type RoomEventFilter = typeof RoomEventFilter.Type

/** What `/sync` returns. */
export const Filter = Schema.Struct({
  event_fields: fewFields,
  event_format: nullable(Schema.Literals(["client", "federation"])),
  presence: nullable(EventFilter),
  account_data: nullable(EventFilter),
  room: nullable(
    Schema.Struct({
      rooms,
      not_rooms: rooms,
      include_leave: flag,
      state: nullable(RoomEventFilter),
      timeline: nullable(RoomEventFilter),
      ephemeral: nullable(RoomEventFilter),
      account_data: nullable(RoomEventFilter)
    })
  )
}).annotate({ identifier: "Filter" })
export type Filter = typeof Filter.Type

type Texts = ReadonlyArray<string> | null | undefined

/** The steps of matching that the patterns of a list may take for one type: enough for all but hostile ones. */
const maxSteps = 20_000

const matcher = (patterns: ReadonlyArray<string>): ((text: string) => boolean) => {
  const exact = new Set(patterns.filter((pattern) => !isPattern(pattern)))
  const globs = patterns.filter(isPattern).map((pattern) => parseGlob(pattern))
  return (text) => {
    if (exact.has(text)) return true
    const budget = { left: maxSteps }
    return globs.some((glob) => matchesGlob(text, glob, budget))
  }
}

/** Whether a list allows a text: no list allows everything, an empty one nothing. */
const allows = (wanted: Texts, unwanted: Texts, match: typeof matcher): ((text: string) => boolean) => {
  const isWanted = wanted == null ? undefined : match(wanted)
  const isUnwanted = unwanted == null || unwanted.length === 0 ? undefined : match(unwanted)
  return (text) => (isWanted === undefined || isWanted(text)) && (isUnwanted === undefined || !isUnwanted(text))
}

const exactly = (texts: ReadonlyArray<string>) => {
  const set = new Set(texts)
  return (text: string) => set.has(text)
}

/** Whether a filter lets events of a room through. */
export const allowsRoom = (filter: Pick<RoomEventFilter, "rooms" | "not_rooms"> | null | undefined) =>
  allows(filter?.rooms, filter?.not_rooms, exactly)

/** The filter's decision about one event without other events. The caller looks up `relates`. */
export type EventPredicate = (event: Pick<Event, "type" | "sender" | "content" | "room_id">) => boolean

const everything: EventPredicate = () => true

/** True for a filter that every event passes. */
export const isEverything = (predicate: EventPredicate): boolean => predicate === everything

const relTypeOf = ({ content }: Pick<Event, "content">): string | undefined => {
  const relation = content["m.relates_to"]
  return isJsonObject(relation) && typeof relation.rel_type === "string" ? relation.rel_type : undefined
}

/** Whether lists of types allow the relation of an event. An event without one is of no wanted type, and of no unwanted one. */
const allowsRelation = (wanted: Texts, unwanted: Texts): ((event: Pick<Event, "content">) => boolean) => {
  if (wanted == null && unwanted == null) return () => true
  const allowed = allows(wanted, unwanted, exactly)
  return (event) => {
    const relType = relTypeOf(event)
    return relType === undefined ? wanted == null : allowed(relType)
  }
}

/** Compiles the part of a filter that looks at types, senders, rooms, URLs and the relations of the events themselves. */
export const compileFilter = (filter: RoomEventFilter | EventFilter | null | undefined): EventPredicate => {
  if (filter == null) return everything
  const room = filter as RoomEventFilter
  const { "org.matrix.msc3874.rel_types": relTypes, "org.matrix.msc3874.not_rel_types": notRelTypes } = room
  const lists = [room.types, room.not_types, room.senders, room.not_senders, room.rooms, room.not_rooms]
  const narrows = [...lists, relTypes, notRelTypes]
  if (narrows.every((list) => list == null) && room.contains_url == null) return everything
  const type = allows(room.types, room.not_types, matcher)
  const sender = allows(room.senders, room.not_senders, exactly)
  const inRoom = allowsRoom(room)
  const relation = allowsRelation(relTypes, notRelTypes)
  const { contains_url: wantsUrl } = room
  return (event) =>
    type(event.type) &&
    sender(event.sender) &&
    inRoom(event.room_id) &&
    relation(event) &&
    (wantsUrl == null || (typeof event.content.url === "string") === wantsUrl)
}

/** A path of `event_fields`: names with dots between them; a backslash escapes a dot or a backslash. */
const pathOf = (field: string): ReadonlyArray<string> => {
  const names = [""]
  for (let index = 0; index < field.length; index++) {
    const character = field[index]!
    if (character === ".") names.push("")
    else if (character === "\\" && /[.\\]/.test(field[index + 1] ?? "")) names[names.length - 1] += field[++index]!
    else names[names.length - 1] += character
  }
  return names
}

const own = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined

const define = (target: object, name: string, value: unknown) =>
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true })

const copyPath = (from: unknown, to: object, path: ReadonlyArray<string>, at = 0): void => {
  const name = path[at]!
  const value = own(from, name)
  if (value === undefined) return
  if (at === path.length - 1) {
    define(to, name, value)
    return
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return
  const known = own(to, name)
  // Values that were accepted whole are not parsed again.
  if (known === value) return
  const inner = (known as object | undefined) ?? {}
  define(to, name, inner)
  copyPath(value, inner, path, at + 1)
}

/** Takes the wanted fields of events; undefined if all are wanted. */
export const compileFields = (fields: Texts): (<E extends object>(event: E) => E) | undefined => {
  if (fields == null) return undefined
  const paths = fields.map(pathOf)
  return <E extends object>(event: E) => {
    const picked = {}
    for (const path of paths) copyPath(event, picked, path)
    return picked as E
  }
}
