/**
 * The IDs of room versions, for settings: `RoomVersions` has what they mean.
 */

/** The versions of the specification that this server speaks. */
export const stableVersions = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] as const
