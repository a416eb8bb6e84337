/**
 * The settings of limits per user and per room. A part of `GatewayConfig`.
 */
import { defaultLimits, type Limits } from "@greenroom/actors/runtime/Limits"
import { type Configuration, setting, wholeNumber } from "@greenroom/gateway/Setting"

const limit = (name: string, description: string, fallback: number, what = "a number") =>
  setting({ name: `limits.${name}`, description, ...wholeNumber(what, 1, 1e12), fallback })

export const limitSettings = {
  roomLimit: limit("rooms", "The number of rooms that a user may be in", defaultLimits.rooms),
  invitationLimit: limit("invitations", "The number of pending invitations of a user", defaultLimits.invitations),
  deviceLimit: limit("devices", "The number of logged-in devices of a user", defaultLimits.devices),
  aliasLimit: limit(
    "aliases",
    "The number of aliases that a user may make, and that a room may have",
    defaultLimits.aliases
  ),
  stateLimit: limit("state_bytes", "The size of a room's state in bytes", defaultLimits.stateBytes, "a number of bytes")
} as const

/** The limits of the settings. */
export const toLimits = (config: Configuration<typeof limitSettings>): Limits => ({
  rooms: config.roomLimit,
  invitations: config.invitationLimit,
  devices: config.deviceLimit,
  aliases: config.aliasLimit,
  stateBytes: config.stateLimit
})
