/**
 * Room upgrades: the room of another version that replaces a room, and the power levels that close the room which was
 * replaced. Power levels become integers, which versions from 10 on demand.
 *
 * Source: "Room Upgrades" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { tombstoneLevel } from "./LevelKeys.ts"
import type { RoomSeed, SeedEvent } from "./RoomPreset.ts"
import type { RoomVersion, StateLookup } from "./RoomVersion.ts"

/** The room to replace, and the user who replaces it. */
export interface RoomUpgrade {
  readonly oldRoom: RoomId
  /** The newest event of the old room. */
  readonly lastEvent: EventId
  /** The state of the old room: all that `transferredTypes` name. */
  readonly state: ReadonlyArray<Event>
  readonly creator: UserId
  /** The content of the creator's membership. */
  readonly creatorProfile: JsonObject
  /** The additional creators of the new room, in versions that have them. */
  readonly additionalCreators: ReadonlyArray<UserId>
}

/** State with the empty state key that the new room gets, in this order. */
const transferredSettings = [
  "m.room.join_rules",
  "m.room.history_visibility",
  "m.room.guest_access",
  "m.room.server_acl",
  "m.room.encryption",
  "m.room.name",
  "m.room.topic",
  "m.room.avatar",
  "m.room.canonical_alias"
] as const

/** Settings that the new room states where the old one does not, with the meaning of their absence: clients look for them. */
const unsaid: { readonly [type: string]: JsonObject } = { "m.room.guest_access": { guest_access: "forbidden" } }

/** The types of the old room's state that an upgrade reads. Of memberships it transfers bans alone. */
export const transferredTypes: ReadonlyArray<string> = [
  ...transferredSettings,
  "m.room.create",
  "m.room.power_levels",
  "m.room.member",
  "m.space.child",
  "m.room.tombstone"
]

/** Rooms of former versions have levels as text or with a fraction. Undefined for other values. */
const toInteger = (level: Json | undefined): number | undefined => {
  const value = typeof level === "string" ? Number.parseInt(level, 10) : level
  return typeof value === "number" && Number.isFinite(value) ? Math.trunc(value) : undefined
}

const integersOf = (levels: Json | undefined): { readonly [key: string]: number } =>
  Object.fromEntries(
    Object.entries(isJsonObject(levels) ? levels : {}).flatMap(([key, level]) => {
      const integer = toInteger(level)
      return integer === undefined ? [] : [[key, integer] as const]
    })
  )

const integerLevels = (content: JsonObject): JsonObject =>
  Object.fromEntries(
    Object.entries(content).flatMap(([key, value]): ReadonlyArray<[string, Json]> => {
      if (key === "users" || key === "events" || key === "notifications") return [[key, integersOf(value)]]
      const level = toInteger(value)
      return level === undefined ? [] : [[key, level]]
    })
  )

const levelsOfNewRoom = (content: JsonObject, creators: ReadonlyArray<UserId>, version: RoomVersion): JsonObject => {
  const levels = integerLevels(content)
  if (!version.privilegesCreators) return levels
  const users = Object.entries(integersOf(levels.users)).filter(([userId]) => !creators.includes(userId as UserId))
  const events = integersOf(levels.events)
  const tombstone = Math.max(events["m.room.tombstone"] ?? 0, tombstoneLevel)
  return { ...levels, users: Object.fromEntries(users), events: { ...events, "m.room.tombstone": tombstone } }
}

/** A join rule that the new version does not know would close the room for good: the room takes invitations instead. */
const joinRulesOfNewRoom = (content: JsonObject, version: RoomVersion): JsonObject => {
  const rule = typeof content.join_rule === "string" ? content.join_rule : "invite"
  const isKnown =
    rule === "public" || rule === "invite" || version.knockRules.has(rule) || version.restrictedRules.has(rule)
  return isKnown ? content : { join_rule: "invite" }
}

const createOf = (upgrade: RoomUpgrade, version: RoomVersion, old: JsonObject): JsonObject => {
  const { "m.federate": federate, type } = old
  const creators = upgrade.additionalCreators.filter((userId) => userId !== upgrade.creator)
  return {
    room_version: version.id,
    // From version 12 on the predecessor is its room alone.
    predecessor: { room_id: upgrade.oldRoom, ...(version.privilegesCreators ? {} : { event_id: upgrade.lastEvent }) },
    ...(version.namesCreator ? { creator: upgrade.creator } : {}),
    ...(version.privilegesCreators && creators.length > 0 ? { additional_creators: creators } : {}),
    ...(type === undefined ? {} : { type }),
    ...(federate === undefined ? {} : { "m.federate": federate })
  }
}

/**
 * The room that replaces another. The power levels come last: until then the creator may set everything, whatever the
 * creator's level in the old room is.
 */
export const upgradeSeed = (upgrade: RoomUpgrade, version: RoomVersion): RoomSeed => {
  const { creator, creatorProfile, state } = upgrade
  const contentOf = (type: string) => state.find((event) => event.type === type && event.state_key === "")?.content
  const seed = (type: string, content: JsonObject, state_key = ""): SeedEvent => ({ type, state_key, content })
  const settings = transferredSettings.flatMap((type) => {
    const content = contentOf(type) ?? unsaid[type]
    if (content === undefined) return []
    return [seed(type, type === "m.room.join_rules" ? joinRulesOfNewRoom(content, version) : content)]
  })
  const children = state.filter(({ content, type }) => type === "m.space.child" && content.via !== undefined)
  const bans = state.filter(({ content, type }) => type === "m.room.member" && content.membership === "ban")
  const levels = contentOf("m.room.power_levels")
  return {
    create: createOf(upgrade, version, contentOf("m.room.create") ?? {}),
    state: [
      seed("m.room.member", { ...creatorProfile, membership: "join" }, creator),
      ...settings,
      ...children.map(({ content, state_key = "", type }) => seed(type, content, state_key)),
      ...bans.map(({ content, state_key = "", type }) => {
        const { reason } = content
        return seed(type, { membership: "ban", ...(reason === undefined ? {} : { reason }) }, state_key)
      }),
      ...(levels === undefined
        ? []
        : [seed("m.room.power_levels", levelsOfNewRoom(levels, [creator, ...upgrade.additionalCreators], version))])
    ]
  }
}

/** The power levels by which only moderators still send or invite. Undefined if they are so already. */
export const closingLevels = (state: StateLookup, version: RoomVersion): JsonObject | undefined => {
  const levels = version.levels(state)
  const least = Math.max(50, levels.of("users_default") + 1)
  if (levels.of("events_default") >= least && levels.of("invite") >= least) return undefined
  return {
    ...state("m.room.power_levels", "")?.content,
    events_default: Math.max(levels.of("events_default"), least),
    invite: Math.max(levels.of("invite"), least)
  }
}
