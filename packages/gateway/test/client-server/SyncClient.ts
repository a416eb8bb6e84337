/** A client of `/sync`, for tests. */
import { Effect } from "effect"
import type { Gateway } from "../../src/Gateway.ts"
import { as, type ClientEvent, inPath, messageBodies, type TestUser } from "../TestGateway.ts"

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

/** An answer has no key for a kind of rooms that it has none of. */
export const noRooms = { join: {}, invite: {}, leave: {} }

export const sync = (user: TestUser, options: { readonly [key: string]: unknown } = {}) =>
  Effect.map(as(user)("GET", `/v3/sync?${query(options)}`), ({ body }): Answer => {
    const answer = body as unknown as Answer
    return { ...answer, rooms: { ...noRooms, ...answer.rooms } }
  })

export const bodies = (room: SyncedRoom | undefined) => room && messageBodies(room.timeline.events)

/** The memberships of the user at the events of the timeline, each change once. */
export const memberships = (room: SyncedRoom | undefined) =>
  room?.timeline.events
    .map(({ unsigned }) => unsigned?.membership)
    .filter((membership, i, all) => membership !== all[i - 1])

/** Repeats /sync from a token on until an answer passes. */
export const syncUntil = Effect.fnUntraced(function* (
  user: TestUser,
  since: string,
  passes: (answer: Answer) => boolean,
  options: { readonly [key: string]: unknown } = {}
): Effect.fn.Return<Answer, never, Gateway> {
  let answer = yield* sync(user, { ...options, since, timeout: 30_000 })
  while (!passes(answer)) answer = yield* sync(user, { ...options, since: answer.next_batch, timeout: 30_000 })
  return answer
})

export const presenceOf = (answer: Answer, user: TestUser) =>
  answer.presence.events.find(({ sender }) => sender === user.id)?.content

export const types = (events: Events | undefined) => events?.events.map(({ type }) => type) ?? []
