/**
 * The methods of the WebSocket, as calls of the home server's services: the same operations as the HTTP handlers, by name.
 *
 * Source: docs/client-api.md, "WebSocket".
 */

import type { AccountStandings } from "@greenroom/actors/account/AccountStandings"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { AppServices } from "@greenroom/actors/app-service/AppServices"
import { Presences } from "@greenroom/actors/presence/Presences"
import type { RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { Leases } from "@greenroom/actors/runtime/Leases"
import type { Session } from "@greenroom/actors/runtime/Session"
import { SessionRevocations } from "@greenroom/actors/runtime/SessionRevocations"
import { Events } from "@greenroom/actors/sync/Events"
import { Users } from "@greenroom/actors/user/Users"
import { done } from "@greenroom/protocol/api/Body"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { Pagination } from "@greenroom/protocol/Pagination"
import type { SocketCall, SocketMethod, SocketParams } from "@greenroom/protocol/SocketMethod"
import { Effect } from "effect"
import { isReading, makeAccountRules } from "../client-api/AccountRules.ts"
import { pagination } from "../client-api/Paging.ts"
import type { RateLimit } from "../RateLimit.ts"
import { RequestSlots, type Slot } from "../RequestSlots.ts"
import { makeTakeOfUser } from "../UserRates.ts"

export interface Calls {
  /** Answers a call of a session, within the rates of its user. */
  readonly answer: (session: Session, call: SocketCall) => Effect.Effect<unknown, MatrixError>
  /** The slot in which a call is answered and its answer sent. */
  readonly slot: (session: Session, call: SocketCall) => Slot
}

type Methods = {
  readonly [Method in SocketMethod]: (
    session: Session,
    params: SocketParams<Method>
  ) => Effect.Effect<unknown, MatrixError>
}

type Paging = { readonly [K in keyof Pagination]?: string | number | undefined }

const asText = (value: string | number | undefined) => (value === undefined ? undefined : String(value))

const page = ({ dir, from, limit, to }: Paging) =>
  pagination({ dir: asText(dir), from: asText(from), limit: asText(limit), to: asText(to) })

const roomMethods = (rooms: Rooms["Service"], events: Events["Service"]) =>
  ({
    send: (session, { content, room_id, txn_id, type }) => rooms.send(session, room_id, type, content, txn_id),
    state: (session, { content, room_id, state_key = "", type }) => {
      if (type === undefined) return rooms.getFullState(session, room_id)
      return content === undefined
        ? rooms.getState(session, room_id, type, state_key)
        : rooms.setState(session, room_id, type, state_key, content)
    },
    join: (session, { content, room_id, txn_id }) => rooms.join(session, room_id, content, txn_id),
    leave: (session, { room_id, txn_id }) => Effect.as(rooms.leave(session, room_id, txn_id), done),
    invite: (session, { reason, room_id, txn_id, user_id }) =>
      Effect.as(rooms.setMembership(session, room_id, "invite", user_id, reason, txn_id), done),
    kick: (session, { reason, room_id, txn_id, user_id }) =>
      Effect.as(rooms.setMembership(session, room_id, "kick", user_id, reason, txn_id), done),
    ban: (session, { reason, room_id, txn_id, user_id }) =>
      Effect.as(rooms.setMembership(session, room_id, "ban", user_id, reason, txn_id), done),
    unban: (session, { reason, room_id, txn_id, user_id }) =>
      Effect.as(rooms.setMembership(session, room_id, "unban", user_id, reason, txn_id), done),
    typing: (session, { room_id, timeout, typing }) =>
      Effect.as(rooms.setTyping(session, room_id, session.userId, typing !== false && typing !== 0, timeout), done),
    messages: (session, { feedback = false, room_id, ...query }) =>
      Effect.flatMap(page(query), (options) => rooms.messages(session, room_id, { ...options, feedback })),
    initialSync: (session, { room_id, ...query }) =>
      Effect.flatMap(
        page(query),
        ({ limit }): Effect.Effect<unknown, MatrixError> =>
          room_id === undefined ? events.initialSync(session, limit) : rooms.initialSync(session, room_id, limit)
      ),
    members: (session, { room_id }) => rooms.members(session, room_id),
    createRoom: (session, { txn_id, ...options }) => rooms.create(session, options, txn_id),
    redact: (session, { event_id, reason, room_id, txn_id }) =>
      rooms.redact(session, room_id, event_id, reason === undefined ? {} : { reason }, txn_id)
  }) satisfies Partial<Methods>

const peopleMethods = (users: Users["Service"], presences: Presences["Service"]) =>
  ({
    presence: (session, { presence, state = presence, status_msg, user_id = session.userId }) =>
      state === undefined
        ? presences.get(session, user_id)
        : Effect.as(presences.set(session, user_id, state, status_msg ?? undefined), done),
    profile: (session, { field, user_id = session.userId, value, visibility }) => {
      if (field === undefined) return users.profile(session, user_id)
      return value === undefined
        ? users.profileField(session, user_id, field)
        : Effect.as(users.setProfileField(session, user_id, field, value, visibility), done)
    },
    ping: () => Effect.succeed(done)
  }) satisfies Partial<Methods>

/**
 * A call that changes something runs to its end when the socket closes, and holds a lease, like an HTTP request (`ChangesRunToEnd`). What
 * it does in rooms after its account was deactivated is undone.
 */
const makeRunToEnd = Effect.gen(function* () {
  const { hold } = yield* Leases
  const accounts = yield* Accounts
  const revocations = yield* SessionRevocations
  return <A, E>(session: Session, call: SocketCall, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    isReading(call)
      ? effect
      : Effect.uninterruptible(
          Effect.onExit(hold(effect), () =>
            revocations.hasEnded(session) ? accounts.finishDeactivation(session.userId) : Effect.void
          )
        )
})

/** Calls that count as activity of the user. Setting the presence does not. */
const isActivity = (call: SocketCall): boolean =>
  call.method === "ping" || (call.method !== "presence" && !isReading(call))

export const makeCalls: Effect.Effect<
  Calls,
  never,
  | Accounts
  | SessionRevocations
  | Rooms
  | RoomReader
  | AccountStandings
  | AppServices
  | Events
  | HomeServerConfig
  | Users
  | Presences
  | RateLimit
  | RequestSlots
> = Effect.gen(function* () {
  const presences = yield* Presences
  const take = yield* makeTakeOfUser
  const slots = yield* RequestSlots
  const runToEnd = yield* makeRunToEnd
  const rules = yield* makeAccountRules
  const methods: Methods = {
    ...roomMethods(yield* Rooms, yield* Events),
    ...peopleMethods(yield* Users, presences)
  }
  return {
    slot: ({ userId }, call) => slots.enter(isReading(call) ? "reads" : "sends", userId),
    answer: (session, call) => {
      const method = methods[call.method] as (session: Session, params: unknown) => Effect.Effect<unknown, MatrixError>
      return take(isReading(call) ? "requests" : "sends", session).pipe(
        Effect.andThen(rules.call(session, call)),
        Effect.andThen(isActivity(call) ? presences.active(session) : Effect.void),
        Effect.andThen(Effect.suspend(() => runToEnd(session, call, method(session, call.params))))
      )
    }
  }
})
