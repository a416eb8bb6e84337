/**
 * Presence in the form that clients receive.
 *
 * Source: "Presence" of the draft and of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"

/** `m.presence` as clients receive it. */
export interface PresenceEvent {
  readonly type: "m.presence"
  readonly content: PresenceContent
}

/** The content of m.presence. */
export interface PresenceContent {
  readonly user_id: UserId
  readonly state: string
  /** The same as `state`, under its successor's name. */
  readonly presence: string
  readonly status_msg?: string
  /** Milliseconds since the user last did something. */
  readonly last_active_ago?: number
  readonly displayname?: string
  readonly avatar_url?: string
}
