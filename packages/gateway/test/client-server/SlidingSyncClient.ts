/**
 * A client of sliding sync (MSC4186) for tests.
 */
import { Effect } from "effect"
import { as, inPath, type TestUser } from "../TestGateway.ts"

interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly sender: string
  readonly state_key?: string
  readonly content: { readonly [key: string]: unknown }
}

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
      readonly global?: ReadonlyArray<{ readonly type: string }>
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

/** The request of a client that shows its rooms with the last message. */
export const list = (ranges: ReadonlyArray<readonly [number, number]>, more: object = {}) => ({
  conn_id: "rooms",
  lists: { all: { ranges, timeline_limit: 1, required_state: [["m.room.create", ""]], ...more } }
})

export const bodies = (room: Room | undefined) =>
  room?.timeline?.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : [])) ?? []

export const types = (events: ReadonlyArray<{ readonly type: string }> | undefined) =>
  events?.map(({ type }) => type) ?? []

export const enter = (host: TestUser, guest: TestUser, room: string) =>
  Effect.andThen(
    as(host)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: guest.id }),
    as(guest)("POST", `/v3/rooms/${inPath(room)}/join`, {})
  )

export const enabled = { enabled: true }
