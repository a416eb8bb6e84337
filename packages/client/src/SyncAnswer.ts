/**
 * The answer to `/sync` of today's client API, as far as programs read it.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { JsonObject } from "@greenroom/protocol/Json"

/** An event without an ID, such as account data, typing or stripped state. */
export interface SimpleEvent {
  readonly type: string
  readonly content: JsonObject
  readonly sender?: string
  readonly state_key?: string
}

interface Events<E = SimpleEvent> {
  readonly events: ReadonlyArray<E>
}

/** A room that the user is in, or has left. */
export interface SyncedRoom {
  /** With `limited` there are events between the last answer and this timeline, which `prev_batch` leads to. */
  readonly timeline?: Events<ClientServerEvent> & { readonly limited?: boolean; readonly prev_batch?: string }
  /** The state before the timeline. */
  readonly state?: Events<ClientServerEvent>
  readonly summary?: JsonObject
  readonly ephemeral?: Events
  readonly account_data?: Events
  readonly unread_notifications?: { readonly notification_count?: number; readonly highlight_count?: number }
}

/** The updates since a token. Absent fields are unchanged. */
export interface SyncAnswer {
  /** The `since` of the next sync. */
  readonly next_batch: string
  readonly rooms?: {
    readonly join?: { readonly [roomId: string]: SyncedRoom }
    readonly invite?: { readonly [roomId: string]: { readonly invite_state: Events } }
    readonly knock?: { readonly [roomId: string]: { readonly knock_state: Events } }
    readonly leave?: { readonly [roomId: string]: SyncedRoom }
  }
  readonly account_data?: Events
  readonly presence?: Events
  readonly to_device?: Events
  readonly device_lists?: { readonly changed?: ReadonlyArray<string>; readonly left?: ReadonlyArray<string> }
  readonly device_one_time_keys_count?: { readonly [algorithm: string]: number }
}
