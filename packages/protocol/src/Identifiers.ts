/**
 * Identifiers: a sigil, a localpart and the server name that it belongs to
 * (`@alice:example.org`, `!room:example.org`, `#alias:example.org`, `$event:example.org`). Event IDs from room version 3 and
 * room IDs from version 12 are a sigil and a hash in base64, and belong to no server.
 *
 * Every identifier is at most 255 bytes of UTF-8 without control characters, though today's specification lets IDs of rooms and events
 * have them. A user ID that *we* allocate has a lower-case localpart (`localpartGrammar`); identifiers that other servers allocated are
 * taken as they are, whatever their case.
 * Source: "Architecture" and "Room structure" of the draft, "Identifier Grammar" of the appendices of the specification.
 */
import * as Schema from "effect/Schema"

/** The longest identifier, in bytes of UTF-8. */
export const maxIdentifierBytes = 255

const encoder = new TextEncoder()
const byteLength = (text: string): number =>
  text.length * 3 <= maxIdentifierBytes ? text.length : encoder.encode(text).length

const serverNamePattern =
  /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z](?:[0-9A-Za-z.-]{0,253}[0-9A-Za-z])?)(?::[0-9]{1,5})?$/

/** True for a host name, an IPv4 address or a bracketed IPv6 address, with an optional port. */
export const isServerName = (text: string): boolean => {
  if (!serverNamePattern.test(text)) return false
  const port = /:([0-9]+)$/.exec(text.replace(/^\[.*\]/, ""))
  return port === null || (Number(port[1]) >= 1 && Number(port[1]) <= 65_535)
}

/** Control characters, and those that end a line or paragraph. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const unprintable = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/

/** True for a sigil, a localpart and a server name. */
const isOfServer = (sigil: string, text: string): boolean => {
  if (text.charCodeAt(0) !== sigil.charCodeAt(0) || byteLength(text) > maxIdentifierBytes) return false
  const colon = text.indexOf(":")
  if (colon < 2 || !isServerName(text.slice(colon + 1))) return false
  return !unprintable.test(text.slice(1, colon)) && text.isWellFormed()
}

/** A hash in base64, by either of its alphabets. */
const isHash = (sigil: string, text: string): boolean =>
  text.startsWith(sigil) && text.length <= maxIdentifierBytes && /^.[A-Za-z0-9+/_-]+$/.test(text)

/** Describes the filter in the API's documentation; the pattern lets a little more through than the filter. */
const documentedAs = (pattern: string) => ({
  toJsonSchema: () => [{ pattern, maxLength: maxIdentifierBytes }, true] as const
})

const identifier = (name: string, pattern: string, example: string, holds: (text: string) => boolean) =>
  Schema.String.check(
    Schema.makeFilter((text: string) => holds(text) || `Expected ${name}, such as ${example}`, documentedAs(pattern))
  )

const isOfServerOrHash = (sigil: string, text: string): boolean => isOfServer(sigil, text) || isHash(sigil, text)

/** The name of a home server: a host with an optional port, for example `example.org` or `localhost:8448`. */
export const ServerName = Schema.String.check(
  Schema.makeFilter(
    (text: string) => isServerName(text) || "Expected a server name, such as example.org or localhost:8448",
    documentedAs("^[0-9A-Za-z.:[\\]-]+$")
  )
).pipe(Schema.brand("ServerName"))
export type ServerName = typeof ServerName.Type

/** `@localpart:server`, the address of a person. */
export const UserId = identifier("a user ID", "^@[^:]+:.+$", "@alice:example.org", (text) =>
  isOfServer("@", text)
).pipe(Schema.brand("UserId"))
export type UserId = typeof UserId.Type

/**
 * A user ID as other servers may still have it (`isHistoricalUserId`): every member of a room can be named by it, such as in
 * a ban.
 */
export const HistoricalUserId = identifier("a user ID", "^@[^:]*:.+$", "@alice:example.org", (text) =>
  isHistoricalUserId(text)
).pipe(Schema.brand("UserId"))

/**
 * `!opaque:server`, or `!` and a hash. The server part only names who made the ID: the room lives on every server that
 * takes part.
 */
export const RoomId = identifier("a room ID", "^!.+$", "!opaque:example.org", (text) =>
  isOfServerOrHash("!", text)
).pipe(Schema.brand("RoomId"))
export type RoomId = typeof RoomId.Type

/** `#name:server`, a human-readable name that its server maps to a room ID. */
export const RoomAlias = identifier("a room alias", "^#[^:]+:.+$", "#name:example.org", (text) =>
  isOfServer("#", text)
).pipe(Schema.brand("RoomAlias"))
export type RoomAlias = typeof RoomAlias.Type

/** `$opaque:server`, or `$` and a hash. In the draft's room version this is `$pdu_id:origin`. */
export const EventId = identifier("an event ID", "^\\$.+$", "$opaque:example.org", (text) =>
  isOfServerOrHash("$", text)
).pipe(Schema.brand("EventId"))
export type EventId = typeof EventId.Type

/** True for a well-formed user ID. */
export const isUserId = (text: unknown): text is UserId => typeof text === "string" && isOfServer("@", text)
/** True for a well-formed room ID. */
export const isRoomId = (text: unknown): text is RoomId => typeof text === "string" && isOfServerOrHash("!", text)
/** True for a well-formed room alias. */
export const isRoomAlias = (text: unknown): text is RoomAlias => typeof text === "string" && isOfServer("#", text)
/** True for a well-formed event ID. */
export const isEventId = (text: unknown): text is EventId => typeof text === "string" && isOfServerOrHash("$", text)

/** The grammar of server names, which includes names of no host. */
const serverNameGrammar = /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(?::[0-9]{1,5})?$/

/**
 * True for user IDs that rooms of the versions 1 to 12 have to take from other servers: the localpart may be empty, and hold
 * control characters but for U+0000. There may be no such server.
 */
export const isHistoricalUserId = (text: unknown): text is UserId => {
  if (typeof text !== "string" || !text.startsWith("@") || byteLength(text) > maxIdentifierBytes) return false
  const colon = text.indexOf(":")
  return colon > 0 && serverNameGrammar.test(text.slice(colon + 1)) && !text.includes("\0") && text.isWellFormed()
}

/** True for user IDs that clients may receive outside of events too: their localparts are of the characters U+0021 to U+007E. */
export const isCompliantUserId = (text: unknown): text is UserId => isUserId(text) && /^@[!-~]+?:/.test(text)

/** The server of a user, or of an alias. */
export const serverNameOf = (id: UserId | RoomAlias): ServerName => id.slice(id.indexOf(":") + 1) as ServerName

/**
 * The server that a room ID or event ID names; undefined for a hash. Room versions whose rules depend on it read it. All
 * other code may use it only as a hint of which server to ask.
 */
export const serverPartOf = (id: RoomId | EventId): ServerName | undefined => {
  const colon = id.indexOf(":")
  return colon < 0 ? undefined : (id.slice(colon + 1) as ServerName)
}

/** The localpart of an identifier that is known to be well-formed and of a server. */
export const localpartOf = (id: UserId | RoomId | RoomAlias | EventId): string => id.slice(1, id.indexOf(":"))

/** The localparts of user IDs that this server allocates. */
export const localpartGrammar: RegExp = /^[a-z0-9._=/+-]+$/

/** A user name as we allocate it: capitals, which people type, count as small letters. */
export const lowerCaseLocalpart = (localpart: string): string =>
  localpart.replace(/[A-Z]+/g, (capitals) => capitals.toLowerCase())

/** `@localpart:server`. Does not check the parts. */
export const formatUserId = (localpart: string, serverName: ServerName): UserId =>
  `@${localpart}:${serverName}` as UserId
/** The user ID that an operator means by a user name or a whole user ID. It is not checked. */
export const userIdOfName = (name: string, serverName: ServerName): UserId =>
  name.startsWith("@") ? (name as UserId) : formatUserId(lowerCaseLocalpart(name), serverName)
/** `!localpart:server`. Does not check the parts. */
export const formatRoomId = (localpart: string, serverName: ServerName): RoomId =>
  `!${localpart}:${serverName}` as RoomId
/** `#localpart:server`. Does not check the parts. */
export const formatRoomAlias = (localpart: string, serverName: ServerName): RoomAlias =>
  `#${localpart}:${serverName}` as RoomAlias
/** `$localpart:server`. Does not check the parts. */
export const formatEventId = (localpart: string, serverName: ServerName): EventId =>
  `$${localpart}:${serverName}` as EventId
