/**
 * The settings of limits per user and per room. A part of `GatewayConfig`.
 */
import { defaultLimits, type Limits } from "@greenroom/actors/runtime/Limits"
import { type Configuration, integer, setting } from "@greenroom/gateway/Setting"

const limit = (name: string, description: string, fallback: number, expects = "a number") =>
  setting({ name: `limits.${name}`, description, expects, schema: integer(1, 1e12), fallback })

export const limitSettings = {
  roomLimit: limit("rooms", "How many rooms a user may be in", defaultLimits.rooms),
  invitationLimit: limit("invitations", "How many invitations of a user may wait", defaultLimits.invitations),
  deviceLimit: limit("devices", "How many devices a user may be logged in on", defaultLimits.devices),
  aliasLimit: limit("aliases", "How many aliases a user may make, and a room may have", defaultLimits.aliases),
  stateLimit: limit("state_bytes", "How large the state of a room may become", defaultLimits.stateBytes, "bytes")
} as const

/** The limits of the settings. */
export const toLimits = (config: Configuration<typeof limitSettings>): Limits => ({
  rooms: config.roomLimit,
  invitations: config.invitationLimit,
  devices: config.deviceLimit,
  aliases: config.aliasLimit,
  stateBytes: config.stateLimit
})
