/** A client of `/sync`, for tests. */
import { Effect } from "effect"
import type { Gateway } from "../../src/Gateway.ts"
import { as, inPath, type TestUser } from "../TestGateway.ts"

export interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly origin_server_ts?: number
  readonly sender: string
  readonly state_key?: string
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: { readonly membership?: string }
}
export interface Events<E = ClientEvent> {
  readonly events: ReadonlyArray<E>
}
export interface SyncedRoom {
  readonly timeline: Events & { readonly limited: boolean; readonly prev_batch: string }
  readonly state?: Events
  readonly state_after?: Events
  readonly "org.matrix.msc4222.state_after"?: Events
  readonly summary?: { readonly [key: string]: unknown }
  readonly account_data?: Events<{ readonly type: string; readonly content: object }>
  readonly ephemeral?: Events<{ readonly type: string; readonly content: object }>
}
export interface Answer {
  readonly next_batch: string
  readonly account_data: Events<{ readonly type: string; readonly content: object }>
  readonly presence: Events
  readonly rooms: {
    readonly join: { readonly [roomId: string]: SyncedRoom }
    readonly invite: { readonly [roomId: string]: { readonly invite_state: Events } }
    readonly leave: { readonly [roomId: string]: SyncedRoom }
  }
}

export const query = (options: { readonly [key: string]: unknown }): string =>
  Object.entries(options)
    .map(([key, value]) => `${key}=${inPath(typeof value === "object" ? JSON.stringify(value) : String(value))}`)
    .join("&")

/** An answer leaves out the kinds of rooms that it has none of. */
export const noRooms = { join: {}, invite: {}, leave: {} }

export const sync = (user: TestUser, options: { readonly [key: string]: unknown } = {}) =>
  Effect.map(as(user)("GET", `/v3/sync?${query(options)}`), ({ body }): Answer => {
    const answer = body as unknown as Answer
    return { ...answer, rooms: { ...noRooms, ...answer.rooms } }
  })

export const bodies = (room: SyncedRoom | undefined) =>
  room?.timeline.events.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : []))

/** The user's memberships of the room when the last events were sent, each change once. */
export const memberships = (room: SyncedRoom | undefined) =>
  room?.timeline.events.map(({ unsigned }) => unsigned?.membership).filter((each, i, all) => each !== all[i - 1])

/** Syncs on until an answer is what is waited for. */
export const syncUntil = Effect.fnUntraced(function* (
  user: TestUser,
  since: string,
  isFound: (answer: Answer) => boolean,
  options: { readonly [key: string]: unknown } = {}
): Effect.fn.Return<Answer, never, Gateway> {
  let answer = yield* sync(user, { ...options, since, timeout: 30_000 })
  while (!isFound(answer)) answer = yield* sync(user, { ...options, since: answer.next_batch, timeout: 30_000 })
  return answer
})

export const presenceOf = (answer: Answer, user: TestUser) =>
  answer.presence.events.find(({ sender }) => sender === user.id)?.content

export const types = (events: Events | undefined) => events?.events.map(({ type }) => type) ?? []
