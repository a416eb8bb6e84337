/**
 * The levels that hold where m.room.power_levels names none.
 *
 * Source: "m.room.power_levels" of the client-server specification.
 */

/** The keys of m.room.power_levels that hold one level each, with the level when absent. */
export const defaultLevels = {
  users_default: 0,
  events_default: 0,
  state_default: 50,
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0
} as const

/** A key of m.room.power_levels that holds one level. */
export type LevelKey = keyof typeof defaultLevels

/** All keys of m.room.power_levels that hold one level. */
export const levelKeys = Object.keys(defaultLevels) as ReadonlyArray<LevelKey>

/** The level of the creator of a room without m.room.power_levels, and in the first one of a new room. */
export const creatorLevel = 100

/** The level of m.room.tombstone in new rooms whose creators stand above all levels: more than setting other state takes. */
export const tombstoneLevel = 150
