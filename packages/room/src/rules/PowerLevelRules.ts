/**
 * Changes of m.room.power_levels: the form of the content, and that a user gives or takes only levels up to their own.
 *
 * Source: the rules for m.room.power_levels of the room versions.
 */
import { isHistoricalUserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { levelKeys } from "../LevelKeys.ts"
import { type LevelOptions, type ReadLevel, readInteger } from "./PowerLevelReading.ts"

/** The differences between versions in the rules for m.room.power_levels. */
export interface PowerLevelOptions extends LevelOptions {
  /** True if the rules for changes of `events` apply to `notifications` too. */
  readonly checksNotifications: boolean
}

/** True if every level must be an integer, even in the first m.room.power_levels of a room. */
export const isStrict = ({ readLevel }: LevelOptions): boolean => readLevel === readInteger

/** The keys that hold levels by event type or kind of notification. */
const mapKeys = ["events", "notifications"] as const

const isLevelMap = (readLevel: ReadLevel, map: Json | undefined): boolean =>
  isJsonObject(map) && Object.values(map).every((level) => readLevel(level) !== undefined)

/** Other servers take an empty list for an empty object where they read levels loosely. */
const isEmptyList = (value: Json | undefined): boolean => Array.isArray(value) && value.length === 0

/** True if `users` has levels by user ID. */
export const hasUserLevels = ({ readLevel }: PowerLevelOptions, { users }: JsonObject): boolean =>
  users === undefined || (isLevelMap(readLevel, users) && Object.keys(users as JsonObject).every(isHistoricalUserId))

/** True if all other levels can be read. */
export const hasLevels = (options: PowerLevelOptions, content: JsonObject): boolean => {
  const { checksNotifications, readLevel } = options
  const isMap = (map: Json | undefined) =>
    map === undefined || isLevelMap(readLevel, map) || (!isStrict(options) && isEmptyList(map))
  return (
    levelKeys.every((key) => content[key] === undefined || readLevel(content[key]) !== undefined) &&
    isMap(content.events) &&
    (!checksNotifications || isMap(content.notifications))
  )
}

const keysOf = (...maps: ReadonlyArray<Json | undefined>): ReadonlySet<string> =>
  new Set(maps.flatMap((map) => (isJsonObject(map) ? Object.keys(map) : [])))

const at = (map: Json | undefined, key: string): Json | undefined =>
  isJsonObject(map) && Object.hasOwn(map, key) ? map[key] : undefined

/** True if a sender of this level may make the change. An absent level is not compared. */
const isWithin = (before: number | undefined, after: number | undefined, level: number): boolean =>
  before === after || ((before ?? level) <= level && (after ?? level) <= level)

/** True if a user of this level may turn the power levels `before` into `after`. */
export const allowsChange = (
  { checksNotifications, readLevel }: PowerLevelOptions,
  before: JsonObject,
  after: JsonObject,
  sender: string,
  level: number
): boolean => {
  const maps = checksNotifications ? mapKeys : mapKeys.slice(0, 1)
  const allows = (was: Json | undefined, will: Json | undefined) => isWithin(readLevel(was), readLevel(will), level)
  for (const key of levelKeys) if (!allows(before[key], after[key])) return false
  for (const map of maps) {
    for (const key of keysOf(before[map], after[map])) {
      if (!allows(at(before[map], key), at(after[map], key))) return false
    }
  }
  for (const user of keysOf(before.users, after.users)) {
    const was = readLevel(at(before.users, user))
    const will = readLevel(at(after.users, user))
    if (!isWithin(was, will, level)) return false
    if (was !== will && user !== sender && was !== undefined && was >= level) return false
  }
  return true
}
