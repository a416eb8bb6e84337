/**
 * The events of a new room that a client of today's API creates, in the order in which they are sent: each is allowed in the
 * state that those before it leave. Invitations follow as ordinary memberships. `draft/RoomCreation` has the rooms of the
 * draft's API.
 *
 * Source: "Creation" of the client-server specification.
 */
import { isUserId, type RoomAlias, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { creatorLevel, tombstoneLevel } from "./LevelKeys.ts"
import type { RoomVersion } from "./RoomVersion.ts"

/** The purpose of a room: it sets the join rules, the history visibility and guest access. */
export type RoomPreset = "private_chat" | "trusted_private_chat" | "public_chat"

/** A state event of a room that is yet to be made. */
export interface SeedEvent {
  readonly type: string
  readonly state_key: string
  readonly content: JsonObject
}

/** The room that a client asks for. */
export interface PresetOptions {
  readonly creator: UserId
  /** The content of the creator's membership. */
  readonly creatorProfile: JsonObject
  readonly preset: RoomPreset
  readonly name?: string | undefined
  readonly topic?: string | undefined
  readonly alias?: RoomAlias | undefined
  readonly invite: ReadonlyArray<UserId>
  /** Keys of m.room.create beside those that the server sets. */
  readonly creationContent?: JsonObject | undefined
  readonly initialState?: ReadonlyArray<SeedEvent> | undefined
  /** Replaces keys of the power levels. */
  readonly powerLevels?: JsonObject | undefined
}

/** A room to be made: the content of its m.room.create, and the state events that follow it. */
export interface RoomSeed {
  readonly create: JsonObject
  readonly state: ReadonlyArray<SeedEvent>
}

/** A room without m.room.guest_access lets no guests in. */
const presetStates: { readonly [preset in RoomPreset]: { readonly [type: string]: JsonObject } } = {
  private_chat: {
    "m.room.join_rules": { join_rule: "invite" },
    "m.room.history_visibility": { history_visibility: "shared" },
    "m.room.guest_access": { guest_access: "can_join" }
  },
  trusted_private_chat: {
    "m.room.join_rules": { join_rule: "invite" },
    "m.room.history_visibility": { history_visibility: "shared" },
    "m.room.guest_access": { guest_access: "can_join" }
  },
  public_chat: {
    "m.room.join_rules": { join_rule: "public" },
    "m.room.history_visibility": { history_visibility: "shared" }
  }
}

/** The creators of the room beside the sender, in versions with additional creators. */
const additionalCreators = (options: PresetOptions): ReadonlyArray<Json> => {
  const given = options.creationContent?.additional_creators
  const named = Array.isArray(given) ? given : []
  const invited = options.preset === "trusted_private_chat" ? options.invite : []
  return [...new Set([...named, ...invited])].filter((userId) => userId !== options.creator)
}

const createContent = (options: PresetOptions, version: RoomVersion): JsonObject => {
  const { additional_creators: _, creator: __, room_version: ___, ...given } = options.creationContent ?? {}
  const creators = version.privilegesCreators ? additionalCreators(options) : []
  return {
    ...given,
    room_version: version.id,
    ...(version.namesCreator ? { creator: options.creator } : {}),
    ...(creators.length === 0 ? {} : { additional_creators: creators })
  }
}

/**
 * The power levels of the room: the levels to send state, with the creator and, in trusted chats, the invited users on top.
 */
const powerLevels = (options: PresetOptions, version: RoomVersion): JsonObject => {
  const trusted = options.preset === "trusted_private_chat" ? options.invite : []
  const top = version.privilegesCreators ? [] : [options.creator, ...trusted]
  const defaults: JsonObject = {
    users: Object.fromEntries(top.map((userId) => [userId, creatorLevel])),
    users_default: 0,
    events: {
      "m.room.name": 50,
      "m.room.avatar": 50,
      "m.room.canonical_alias": 50,
      "m.room.topic": 50,
      "m.room.power_levels": 100,
      "m.room.history_visibility": 100,
      "m.room.encryption": 100,
      "m.room.server_acl": 100,
      "m.room.tombstone": version.privilegesCreators ? tombstoneLevel : 100
    },
    events_default: 0,
    state_default: 50,
    ban: 50,
    kick: 50,
    redact: 50,
    // Members of a private room may invite others.
    invite: options.preset === "public_chat" ? 50 : 0,
    historical: 100
  }
  return { ...defaults, ...options.powerLevels }
}

const setsKey = ({ initialState = [] }: PresetOptions, type: string): boolean =>
  initialState.some((event) => event.type === type && event.state_key === "")

/** The fault of the options, as the text of an error; undefined if they are valid. */
export const checkPreset = (options: PresetOptions): string | undefined => {
  const creators = options.creationContent?.additional_creators
  if (
    creators !== undefined &&
    !(Array.isArray(creators) && creators.every((id) => typeof id === "string" && isUserId(id)))
  ) {
    return "creation_content.additional_creators: expected a list of user IDs"
  }
  const federates = options.creationContent?.["m.federate"]
  if (federates !== undefined && typeof federates !== "boolean") {
    return "creation_content.m.federate: expected true or false"
  }
  const users = options.powerLevels?.users
  return users !== undefined && !isJsonObject(users)
    ? "power_level_content_override.users: expected an object"
    : undefined
}

/** The room that the options describe. `initialState` replaces what the preset sets, name and topic replace it in turn. */
export const roomSeed = (options: PresetOptions, version: RoomVersion): RoomSeed => {
  const state = (type: string, content: JsonObject, state_key = ""): SeedEvent => ({ type, state_key, content })
  const preset = Object.entries(presetStates[options.preset]).filter(([type]) => !setsKey(options, type))
  const initial = (options.initialState ?? []).filter(
    ({ state_key, type }) =>
      type !== "m.room.create" &&
      !(state_key === "" && type === "m.room.name" && options.name !== undefined) &&
      !(state_key === "" && type === "m.room.topic" && options.topic !== undefined)
  )
  return {
    create: createContent(options, version),
    state: [
      state("m.room.member", { ...options.creatorProfile, membership: "join" }, options.creator),
      state("m.room.power_levels", powerLevels(options, version)),
      ...(options.alias === undefined ? [] : [state("m.room.canonical_alias", { alias: options.alias })]),
      ...preset.map(([type, content]) => state(type, content)),
      ...initial,
      ...(options.name === undefined ? [] : [state("m.room.name", { name: options.name })]),
      ...(options.topic === undefined
        ? []
        : [
            state("m.room.topic", {
              topic: options.topic,
              "m.topic": { "m.text": [{ mimetype: "text/plain", body: options.topic }] }
            })
          ])
    ]
  }
}
