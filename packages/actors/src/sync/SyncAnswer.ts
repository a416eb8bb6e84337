/**
 * The answer to `/sync`.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { UnreadOfRoom } from "../user/push/UnreadCounts.ts"
import type { SyncedPresence } from "./internal/SyncPresence.ts"

/** An event without sender or ID, such as account data. */
export interface SimpleEvent {
  readonly type: string
  readonly content: object
}

interface Events<E = SimpleEvent> {
  readonly events: ReadonlyArray<E>
}

/** A room that the user is in, or has left. */
export interface SyncedRoom extends Partial<UnreadOfRoom> {
  readonly timeline: Events<ClientServerEvent> & { readonly limited: boolean; readonly prev_batch: string }
  readonly state?: Events<ClientServerEvent>
  readonly state_after?: Events<ClientServerEvent>
  readonly summary?: {
    readonly "m.heroes": ReadonlyArray<string>
    readonly "m.joined_member_count": number
    readonly "m.invited_member_count": number
  }
  readonly ephemeral?: Events
  readonly account_data?: Events
}

/** What an answer tells of encryption. */
export interface SyncedDevices {
  readonly to_device: Events<SimpleEvent & { readonly sender: UserId }>
  /** Absent in a first answer. */
  readonly device_lists?: { readonly changed: ReadonlyArray<UserId>; readonly left: ReadonlyArray<UserId> }
  readonly device_one_time_keys_count: { readonly [algorithm: string]: number }
  readonly device_unused_fallback_key_types: ReadonlyArray<string>
}

/** Where nothing of encryption is new, it may be absent. */
export interface SyncAnswer extends Partial<SyncedDevices> {
  readonly next_batch: string
  readonly rooms: {
    readonly join: { readonly [roomId: string]: SyncedRoom }
    readonly invite: { readonly [roomId: string]: { readonly invite_state: Events<unknown> } }
    readonly knock: { readonly [roomId: string]: { readonly knock_state: Events<unknown> } }
    readonly leave: { readonly [roomId: string]: SyncedRoom }
  }
  readonly account_data: Events
  readonly presence: Events<SyncedPresence>
}
