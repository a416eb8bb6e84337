/**
 * The events of a new room that a client of 2014 creates, in the order in which they are sent: each is allowed in the state
 * that those before it leave. Invites follow as ordinary memberships. `RoomPreset` has the rooms of today's clients.
 *
 * Source: "Rooms" of the draft.
 */
import { type RoomAlias, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { creatorLevel, defaultLevels } from "../LevelKeys.ts"
import type { RoomSeed, SeedEvent } from "../RoomPreset.ts"

/** Public rooms are listed and open to everybody, private ones take an invite. */
export type Visibility = "public" | "private"

/** The room that a user of the draft's client API asks for. */
export interface RoomOptions {
  readonly creator: UserId
  readonly visibility: Visibility
  /** The ID of the room version. */
  readonly roomVersion: string
  readonly name?: string | undefined
  readonly topic?: string | undefined
  /** Aliases on the creator's server. */
  readonly aliases?: ReadonlyArray<RoomAlias> | undefined
  /** The content of the creator's membership. */
  readonly creatorProfile?:
    | { readonly displayname?: string | undefined; readonly avatar_url?: string | undefined }
    | undefined
}

/** The power levels of a new room: the defaults, written down, and the levels to change the room itself. */
const initialPowerLevels = (creator: UserId): JsonObject => ({
  ...defaultLevels,
  users: { [creator]: creatorLevel },
  events: { "m.room.name": 50, "m.room.topic": 50, "m.room.power_levels": 100 }
})

const withoutUndefined = (object: Readonly<Record<string, Json | undefined>>): JsonObject =>
  Object.fromEntries(Object.entries(object).filter((entry): entry is [string, Json] => entry[1] !== undefined))

/** A room as the draft makes it: the content of its m.room.create, and the state events that follow. */
export const draftSeed = (options: RoomOptions): RoomSeed => {
  const { creator } = options
  const state = (type: string, content: JsonObject, state_key = ""): SeedEvent => ({ type, state_key, content })
  const seeds = [
    state("m.room.member", withoutUndefined({ ...options.creatorProfile, membership: "join" }), creator),
    state("m.room.power_levels", initialPowerLevels(creator)),
    state("m.room.join_rules", { join_rule: options.visibility === "public" ? "public" : "invite" }),
    state("m.room.config", { visibility: options.visibility })
  ]
  if (options.aliases !== undefined && options.aliases.length > 0) {
    seeds.push(state("m.room.aliases", { aliases: options.aliases }, serverNameOf(creator)))
  }
  if (options.name !== undefined) seeds.push(state("m.room.name", { name: options.name }))
  if (options.topic !== undefined) seeds.push(state("m.room.topic", { topic: options.topic }))
  return { create: { creator, room_version: options.roomVersion }, state: seeds }
}
