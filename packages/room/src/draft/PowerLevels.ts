/**
 * Power levels of users and of actions in rooms of the draft's version. They are read from m.room.power_levels, where anything
 * that is not an integer counts as absent.
 *
 * Absent keys: `users_default` 0, `events_default` 0, `state_default` 50, `ban`, `kick` and `redact` 50, `invite` 0.
 * Without the event the room's creator has 100 and everybody else 0, and the same defaults hold: in particular state
 * needs 50 from the start, so that only the creator can set the first power levels.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { creatorLevel, defaultLevels, type LevelKey } from "../LevelKeys.ts"
import type { Levels, StateLookup } from "../RoomVersion.ts"

/** The power levels of a room at some point: the content of the event that sets them, or the creator of the room. */
export interface PowerLevels {
  readonly content: JsonObject
  /** The one with `creatorLevel`; only if no event sets power levels. */
  readonly creator: string | undefined
}

/** True for what can be a level: an integer of 53 bits. */
export const isLevel = (value: unknown): value is number => Number.isSafeInteger(value)

const entry = (map: unknown, key: string): number | undefined => {
  if (!isJsonObject(map) || !Object.hasOwn(map, key)) return undefined
  const value = map[key]
  return isLevel(value) ? value : undefined
}

/** The power levels that an m.room.power_levels event sets, or that hold without one. */
export const powerLevels = (event: Event | undefined, create: Event | undefined): PowerLevels =>
  event !== undefined
    ? { content: event.content, creator: undefined }
    : { content: {}, creator: create === undefined ? undefined : create.sender }

/** The power levels in a state. */
export const powerLevelsIn = (state: StateLookup): PowerLevels =>
  powerLevels(state("m.room.power_levels", ""), state("m.room.create", ""))

/** The value of one of the keys that hold a level. */
export const levelFor = (levels: PowerLevels, key: LevelKey): number => entry(levels.content, key) ?? defaultLevels[key]

/** The level of a user. */
export const userLevel = (levels: PowerLevels, userId: UserId | string): number =>
  levels.creator !== undefined && levels.creator === userId
    ? creatorLevel
    : (entry(levels.content.users, userId) ?? levelFor(levels, "users_default"))

/** The level that `events` names for a type. */
export const explicitEventLevel = (levels: PowerLevels, type: string): number | undefined =>
  entry(levels.content.events, type)

/** The level that a user needs to send an event of this type. */
export const eventLevel = (levels: PowerLevels, type: string, isState: boolean): number =>
  explicitEventLevel(levels, type) ?? levelFor(levels, isState ? "state_default" : "events_default")

/** The level that `notifications` names for a key; 50 where it names none. */
const notificationLevel = (levels: PowerLevels, key: string): number => entry(levels.content.notifications, key) ?? 50

/** The power levels of a state. */
export const levelsIn = (state: StateLookup): Levels => {
  const levels = powerLevelsIn(state)
  return {
    user: (userId) => userLevel(levels, userId),
    event: (type, isState) => eventLevel(levels, type, isState),
    of: (key) => levelFor(levels, key),
    notification: (key) => notificationLevel(levels, key)
  }
}
