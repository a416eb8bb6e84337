/**
 * Power levels as room versions 1 to 12 read them.
 *
 * Source: m.room.power_levels of the client-server specification, and the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { creatorLevel, defaultLevels } from "../LevelKeys.ts"
import type { Levels, StateLookup } from "../RoomVersion.ts"

/** The level that a value stands for; undefined for one that is no level. */
export type ReadLevel = (value: Json | undefined) => number | undefined

/** Versions 10 to 12: integers. */
export const readInteger: ReadLevel = (value) => (Number.isSafeInteger(value) ? (value as number) : undefined)

const integerText = /^\s*[+-]?[0-9]+\s*$/

/**
 * Versions 1 to 9: also integers as text, and booleans as other servers have them. Fractions, which the JSON of versions 1
 * to 5 has, are cut off.
 */
export const readLoosely: ReadLevel = (value) => {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? Math.trunc(value) : undefined
    case "string":
      return integerText.test(value) ? Number(value) : undefined
    case "boolean":
      return value ? 1 : 0
    default:
      return undefined
  }
}

/**
 * The creators of a room: the `creator` of m.room.create in versions 1 to 10, its sender in 11, and in 12 its sender with
 * `additional_creators`, who are above all levels.
 */
export type CreatorRule = "content" | "sender" | "privileged"

/** The differences between versions in reading power levels. */
export interface LevelOptions {
  readonly readLevel: ReadLevel
  readonly creators: CreatorRule
}

/** The creators that m.room.create names, by the rule of the version. Entries may be no user IDs. */
export const creatorsOf = (by: CreatorRule, create: Event | undefined): ReadonlyArray<Json> => {
  if (create === undefined) return []
  if (by === "content") return [create.content.creator ?? null]
  const { additional_creators: others } = create.content
  return by === "privileged" && Array.isArray(others) ? [create.sender, ...others] : [create.sender]
}

const entry = (readLevel: ReadLevel, map: Json | undefined, key: string): number | undefined =>
  isJsonObject(map) && Object.hasOwn(map, key) ? readLevel(map[key]) : undefined

const noContent: JsonObject = {}

/** The power levels of a state. Without m.room.power_levels the creator has 100 and others 0. */
export const levelsIn = ({ creators: by, readLevel }: LevelOptions, state: StateLookup): Levels => {
  const event = state("m.room.power_levels", "")
  const content = event?.content ?? noContent
  const creators = creatorsOf(by, state("m.room.create", ""))
  const levelOfCreators =
    by === "privileged" ? Number.POSITIVE_INFINITY : event === undefined ? creatorLevel : undefined
  const of: Levels["of"] = (key) => readLevel(content[key]) ?? defaultLevels[key]
  return {
    of,
    user: (userId) =>
      levelOfCreators !== undefined && creators.includes(userId)
        ? levelOfCreators
        : (entry(readLevel, content.users, userId) ?? of("users_default")),
    event: (type, isState) =>
      entry(readLevel, content.events, type) ?? of(isState ? "state_default" : "events_default"),
    notification: (key) => entry(readLevel, content.notifications, key) ?? 50
  }
}
