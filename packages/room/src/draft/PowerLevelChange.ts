/**
 * The changes that a user may make to m.room.power_levels in rooms of the draft's version. The effective levels before and
 * after are compared, whether explicit or default, so that leaving a key out gains nothing. `rules/PowerLevelRules` has the
 * rules of room versions 1 to 12.
 */
import { isUserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { levelKeys } from "../LevelKeys.ts"
import { explicitEventLevel, isLevel, levelFor, type PowerLevels, userLevel } from "./PowerLevels.ts"

const isAbsentOr = (value: Json | undefined, holds: (value: Json) => boolean): boolean =>
  value === undefined || holds(value)

const isLevelMap = (value: Json, isKey: (key: string) => boolean): boolean =>
  isJsonObject(value) && Object.entries(value).every(([key, level]) => isKey(key) && isLevel(level))

/** True if the content can be that of m.room.power_levels: integers, with user IDs as the keys of `users`. */
export const hasPowerLevelForm = (content: JsonObject): boolean =>
  levelKeys.every((key) => isAbsentOr(content[key], isLevel)) &&
  isAbsentOr(content.users, (users) => isLevelMap(users, isUserId)) &&
  isAbsentOr(content.events, (events) => isLevelMap(events, () => true))

const keysOf = (before: Json | undefined, after: Json | undefined): ReadonlySet<string> =>
  new Set([...(isJsonObject(before) ? Object.keys(before) : []), ...(isJsonObject(after) ? Object.keys(after) : [])])

/** A level that changes must lie within the sender's reach on both sides. */
const isWithin = (before: number, after: number, level: number): boolean =>
  before === after || (before <= level && after <= level)

const allowsDefaults = (before: PowerLevels, after: PowerLevels, level: number): boolean =>
  levelKeys.every((key) => isWithin(levelFor(before, key), levelFor(after, key), level))

/**
 * The level of a type that `events` does not name. It is unknown here whether the type is state, so the stricter default
 * counts.
 */
const unnamedEventLevel = (levels: PowerLevels): number =>
  Math.max(levelFor(levels, "state_default"), levelFor(levels, "events_default"))

const allowsEvents = (before: PowerLevels, after: PowerLevels, level: number): boolean => {
  for (const type of keysOf(before.content.events, after.content.events)) {
    const was = explicitEventLevel(before, type)
    const will = explicitEventLevel(after, type)
    if (was === will) continue
    if ((was ?? unnamedEventLevel(before)) > level || (will ?? unnamedEventLevel(after)) > level) return false
  }
  return true
}

const allowsUsers = (before: PowerLevels, after: PowerLevels, sender: string, level: number): boolean => {
  const users = new Set(keysOf(before.content.users, after.content.users))
  if (before.creator !== undefined) users.add(before.creator)
  for (const user of users) {
    const was = userLevel(before, user)
    const will = userLevel(after, user)
    if (was === will) continue
    if (will > level || (user !== sender && was >= level)) return false
  }
  return true
}

/** True if a user of this level may turn the power levels `before` into `after`. */
export const allowsPowerLevels = (before: PowerLevels, after: PowerLevels, sender: string, level: number): boolean =>
  allowsDefaults(before, after, level) &&
  allowsEvents(before, after, level) &&
  allowsUsers(before, after, sender, level)
