/**
 * The m.room.invite_join of transactions: where a user of the origin asks this server for their membership of a room, it
 * is made, and answered with the state of the room. The rules are those of `@greenroom/room/draft/InviteJoin`.
 *
 * Of the answer only the name of the membership is kept. The state before it stays the same, so it is read anew for every
 * repeat, for as long as the origin is in the room.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { PduAnswer } from "@greenroom/protocol/federation/Transaction"
import { type EventId, isServerName, type ServerName, serverNameOf } from "@greenroom/protocol/Identifiers"
import { BadJson, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import type { KeptPduAnswer } from "@greenroom/store/ReceivedTransactionStore"
import { Effect, Result } from "effect"
import { Room } from "../../room/RoomProtocol.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { mayPass } from "../../runtime/ItemFailure.ts"
import type { Federation } from "../Federation.ts"

/** How many of one transaction are taken: each is answered with the state of a room. */
const maxInviteJoins = 5

const refusalOf = ({ _tag, error }: MatrixError) => ({ errcode: _tag, error })

const unhandled = { errcode: "M_UNKNOWN", error: "The PDU cannot be handled" }

const tooMany = { errcode: "M_LIMIT_EXCEEDED", error: `A transaction has at most ${maxInviteJoins} m.room.invite_join` }

/** Other failures pass: the origin has to repeat the whole request. */
const isFinal = ({ _tag }: MatrixError): boolean =>
  _tag === "M_NOT_FOUND" || _tag === "M_FORBIDDEN" || _tag === "M_BAD_JSON"

/** Takes those of one transaction. Returns the part of each answer that is kept, when its membership is durable. */
export const makeInviteJoins = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client

  /** The reason why this server cannot answer it, whatever the room. */
  const misdirected = ({ content: { target_host }, origin, sender }: Event): MatrixError | undefined => {
    if (serverNameOf(sender) !== origin) return new Forbidden({ error: `${sender} is not a user of ${origin}` })
    if (target_host === serverName) return undefined
    const host = typeof target_host === "string" && isServerName(target_host) ? target_host : "no server"
    return new BadJson({ error: `The target_host is ${host}; this is ${serverName}` })
  }

  const make = Effect.fnUntraced(function* (event: Event): Effect.fn.Return<KeptPduAnswer> {
    const problem = misdirected(event)
    if (problem !== undefined) return refusalOf(problem)
    const made = yield* Effect.result(ask(room(event.room_id).InviteJoin({ event })))
    if (Result.isSuccess(made)) return { joined: { room_id: event.room_id, event_id: made.success.event_id } }
    return isFinal(made.failure) ? refusalOf(made.failure) : yield* Effect.die(made.failure)
  })

  const take = (event: Event, isLastAttempt: boolean): Effect.Effect<KeptPduAnswer> =>
    Effect.catchCause(make(event), (cause) =>
      mayPass(cause, isLastAttempt)
        ? Effect.failCause(cause)
        : Effect.as(Effect.logError(`${event.event_id} of ${event.origin} cannot be handled`, cause), unhandled)
    )

  return Effect.fn("InviteJoins.take")(function* (events: ReadonlyArray<Event>, isLastAttempt: boolean) {
    const answers = new Map<EventId, KeptPduAnswer>()
    for (const [index, event] of events.entries()) {
      answers.set(event.event_id, index < maxInviteJoins ? yield* take(event, isLastAttempt) : tooMany)
    }
    return answers
  })
})

/** The whole of such an answer. A server that is no longer in the room gets M_NOT_FOUND. */
export const wholeAnswer = Effect.fnUntraced(function* (
  { getPdu, getState }: Pick<Federation["Service"], "getPdu" | "getState">,
  origin: ServerName,
  { joined, ...answer }: KeptPduAnswer
): Effect.fn.Return<PduAnswer, MatrixError> {
  if (joined === undefined) return answer
  const { event_id, room_id } = joined
  return yield* Effect.all([getPdu(origin, event_id), getState(origin, room_id, event_id)]).pipe(
    Effect.map(([membership, { auth_chain, pdus }]): PduAnswer => ({ membership, state: pdus, auth_chain })),
    Effect.catchTag("M_NOT_FOUND", () =>
      Effect.succeed(refusalOf(new NotFound({ error: `There is no room ${room_id}` })))
    ),
    Effect.catchCause((cause) =>
      mayPass(cause)
        ? Effect.failCause(cause)
        : Effect.as(Effect.logError(`The state before ${event_id} cannot be returned`, cause), unhandled)
    )
  )
})
