/**
 * A client of sliding sync (MSC4186) for tests.
 */
import { Effect } from "effect"
import { as, type ClientEvent, inPath, joinRoom, messageBodies, type TestUser } from "../TestGateway.ts"

export interface Room {
  readonly initial?: boolean
  readonly membership: string
  readonly name?: string | null
  readonly heroes?: ReadonlyArray<{ readonly user_id: string }>
  readonly timeline?: ReadonlyArray<ClientEvent>
  readonly required_state?: ReadonlyArray<ClientEvent>
  readonly lists?: ReadonlyArray<string>
  readonly invite_state?: ReadonlyArray<ClientEvent>
  readonly limited?: boolean
  readonly num_live?: number
  readonly prev_batch?: string
  readonly joined_count?: number
  readonly notification_count?: number
  readonly bump_stamp: number
  readonly is_dm?: boolean
  readonly unstable_expanded_timeline?: boolean
}

export interface Answer {
  readonly pos: string
  readonly lists: { readonly [name: string]: { readonly count: number } }
  readonly rooms: { readonly [roomId: string]: Room }
  readonly extensions: {
    readonly account_data?: {
      readonly global?: ReadonlyArray<{ readonly type: string; readonly content: object }>
      readonly rooms?: { readonly [roomId: string]: ReadonlyArray<{ readonly type: string }> }
    }
    readonly receipts?: { readonly rooms: { readonly [roomId: string]: { readonly content: object } } }
    readonly typing?: { readonly rooms: { readonly [roomId: string]: { readonly content: object } } }
    readonly to_device?: { readonly next_batch: string; readonly events?: ReadonlyArray<ClientEvent> }
    readonly e2ee?: {
      readonly device_lists?: { readonly changed?: ReadonlyArray<string>; readonly left?: ReadonlyArray<string> }
      readonly device_one_time_keys_count?: { readonly [algorithm: string]: number }
      readonly device_unused_fallback_key_types?: ReadonlyArray<string>
    }
  }
}

export const path = "/unstable/org.matrix.simplified_msc3575/sync"

export const request = (user: TestUser, body: unknown, pos?: string, timeout = 0) => {
  const query = `timeout=${timeout}${pos === undefined ? "" : `&pos=${inPath(pos)}`}`
  return as(user)("POST", `${path}?${query}`, body)
}

export const sync = (user: TestUser, body: unknown, pos?: string, timeout?: number) =>
  Effect.map(request(user, body, pos, timeout), ({ body }) => body as unknown as Answer)

/** A request for windows of one list, whose rooms have their last event. */
export const list = (ranges: ReadonlyArray<readonly [number, number]>, more: object = {}) => ({
  conn_id: "rooms",
  lists: { all: { ranges, timeline_limit: 1, required_state: [["m.room.create", ""]], ...more } }
})

export const bodies = (room: Room | undefined) => messageBodies(room?.timeline)

export const types = (events: ReadonlyArray<{ readonly type: string }> | undefined) =>
  events?.map(({ type }) => type) ?? []

/** Invites a user to a room, which the user joins. */
export const inviteAndJoin = (inviter: TestUser, user: TestUser, room: string) =>
  Effect.andThen(as(inviter)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: user.id }), joinRoom(user, room))

export const enabled = { enabled: true }
