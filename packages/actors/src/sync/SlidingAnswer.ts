/**
 * The answer of sliding sync, with the names of the first implementation, which living clients read.
 *
 * Source: "Response Body" of MSC4186.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { SimpleEvent } from "./SyncAnswer.ts"

/** The updates of a room. An absent field is unchanged, or not set in a room that is `initial`. */
export interface SlidingRoom {
  /** Whether the client is to forget what it has of the room. */
  readonly initial?: boolean
  readonly membership: string
  /** The lists that match the room. */
  readonly lists?: ReadonlyArray<string>
  readonly name?: string | null
  readonly avatar?: string | null
  readonly heroes?: ReadonlyArray<{
    readonly user_id: UserId
    readonly displayname?: string
    readonly avatar_url?: string
  }>
  readonly is_dm?: boolean
  /** Rises with each event that counts as activity. */
  readonly bump_stamp: number
  readonly required_state?: ReadonlyArray<ClientServerEvent>
  readonly timeline?: ReadonlyArray<ClientServerEvent>
  readonly limited?: boolean
  readonly expanded_timeline?: boolean
  readonly unstable_expanded_timeline?: boolean
  /** How many of the last events of the timeline have just happened. */
  readonly num_live?: number
  readonly prev_batch?: string
  readonly joined_count?: number
  readonly invited_count?: number
  readonly notification_count?: number
  readonly highlight_count?: number
  /** The stripped state of an invitation or a knock. */
  readonly invite_state?: ReadonlyArray<unknown>
  readonly stripped_state?: ReadonlyArray<unknown>
}

/** The answers of the requested extensions. */
export interface SlidingExtensionAnswers {
  readonly account_data?: {
    readonly global?: ReadonlyArray<SimpleEvent>
    readonly rooms?: { readonly [roomId: string]: ReadonlyArray<SimpleEvent> }
  }
  readonly receipts?: { readonly rooms: { readonly [roomId: string]: SimpleEvent } }
  readonly typing?: { readonly rooms: { readonly [roomId: string]: SimpleEvent } }
  readonly to_device?: { readonly next_batch: string; readonly events: ReadonlyArray<unknown> }
  readonly e2ee?: {
    readonly device_lists?: { readonly changed: ReadonlyArray<UserId>; readonly left: ReadonlyArray<UserId> }
    readonly device_one_time_keys_count?: { readonly [algorithm: string]: number }
    readonly device_unused_fallback_key_types?: ReadonlyArray<string>
  }
}

/** The answer to a request of simplified sliding sync. */
export interface SlidingAnswer {
  readonly pos: string
  readonly txn_id?: string
  readonly lists: { readonly [list: string]: { readonly count: number } }
  readonly rooms: { readonly [roomId: string]: SlidingRoom }
  readonly extensions: SlidingExtensionAnswers
}
