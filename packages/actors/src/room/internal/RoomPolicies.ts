/**
 * The recommendations of a room's policy server: its signature is asked for before an event of ours is sent, and for events
 * of other servers that come without one.
 *
 * Source: "Policy servers" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import {
  BadJson,
  ConnectionFailed,
  Forbidden,
  LimitExceeded,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import { isRecommended, needsRecommendation, type RoomPolicy } from "@greenroom/room/RoomPolicy"
import { Effect, Result } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { type RemoteFailure, RemoteRooms } from "../RemoteRooms.ts"
import type { RoomState } from "./RoomState.ts"

/** How many events one policy server is asked about at once. */
const concurrency = 4

/** How often a policy server that does not answer is asked again. */
const defaultRetries = 1

export const makeRoomPolicies = Effect.gen(function* () {
  const remote = yield* RemoteRooms
  const { policyServers = {} } = yield* HomeServerConfig
  const { retries = defaultRetries, sendAnyway = false } = policyServers

  /** Whether the policy server has not decided: it did not answer, or failed. */
  const isLost = ({ errcode, status = 0 }: RemoteFailure): boolean => errcode === undefined || status >= 500

  const ask = (room: RoomState, event: Event, policy: RoomPolicy): Effect.Effect<Event, RemoteFailure> =>
    Effect.retry(remote.askPolicy(policy, room.version, event), { times: retries, while: isLost })

  /** The policy server whose signature the event needs and does not bear. Undefined if there is none. */
  const missing = (room: RoomState, event: Event): RoomPolicy | undefined => {
    const { policy } = room
    if (policy === undefined || !needsRecommendation(event)) return undefined
    return isRecommended(room.version, event, policy) ? undefined : policy
  }

  const refusalOf = (failure: RemoteFailure, { via }: RoomPolicy): MatrixError => {
    const { errcode, reason, retryAfter } = failure
    if (isLost(failure)) {
      return new ConnectionFailed({ error: `The policy server ${via} of the room cannot be asked now` })
    }
    switch (errcode) {
      case "M_LIMIT_EXCEEDED":
        return new LimitExceeded({ error: reason, retry_after_ms: retryAfter ?? 5_000 })
      case "M_BAD_JSON":
        return new BadJson({ error: reason })
      case "M_NOT_FOUND":
        return new NotFound({ error: reason })
      default:
        // Other codes say something about this server, or about the session of the user.
        return new Forbidden({ error: reason })
    }
  }

  /**
   * The event with the signature of the policy server, where it needs one. Errors: the refusal in the policy server's words
   * (M_FORBIDDEN, M_BAD_JSON, M_NOT_FOUND, M_LIMIT_EXCEEDED), or M_CONNECTION_FAILED if it does not answer.
   */
  const recommended = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event
  ): Effect.fn.Return<Event, MatrixError> {
    const policy = missing(room, event)
    if (policy === undefined) return event
    const asked = yield* Effect.result(ask(room, event, policy))
    if (Result.isSuccess(asked)) return asked.success
    if (sendAnyway && isLost(asked.failure)) return event
    return yield* refusalOf(asked.failure, policy)
  })

  /** The same for events of other servers: those without a recommendation stay without, and are not shown. */
  const recommendedAll = Effect.fnUntraced(function* (room: RoomState, events: ReadonlyArray<Event>) {
    if (room.policy === undefined) return events
    let lost = false
    return yield* Effect.forEach(
      events,
      (event) => {
        const policy = lost ? undefined : missing(room, event)
        if (policy === undefined) return Effect.succeed(event)
        return Effect.catch(ask(room, event, policy), (failure) =>
          Effect.sync(() => {
            lost = lost || isLost(failure)
            return event
          })
        )
      },
      { concurrency }
    )
  })

  return { recommended, recommendedAll, sendAnyway }
})

export type RoomPolicies = Effect.Success<typeof makeRoomPolicies>
