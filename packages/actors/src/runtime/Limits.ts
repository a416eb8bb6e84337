/**
 * Limits of one user or one room, so that no one can fill the memory or the database of the server. They are checked when
 * something is added; existing data stays.
 */
export interface Limits {
  /** Rooms that a user is in or knocks at. */
  readonly rooms: number
  /** Invitations of a user that wait for an answer. */
  readonly invitations: number
  /** Devices of a user: one more login ends the device that was used longest ago. */
  readonly devices: number
  /** Aliases that a user has made, and aliases of one room. */
  readonly aliases: number
  /** The state of a room, in bytes of JSON. */
  readonly stateBytes: number
}

/** The limits that are not given. */
export const defaultLimits: Limits = {
  rooms: 10_000,
  invitations: 1_000,
  devices: 1_000,
  aliases: 1_000,
  stateBytes: 33_554_432
}
