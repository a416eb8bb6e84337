/**
 * What the parameters `filter` and `since` of `/sync` say.
 *
 * Source: "Syncing" and "Filtering" of the client-server specification.
 */
import { Filter } from "@greenroom/protocol/client-server/Filter"
import { InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { Effect, Option, Schema } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { makeReadToken } from "../../runtime/StreamTokens.ts"
import { AccountData } from "../../user/AccountData.ts"

/** The positions at the end of an earlier answer: of all streams, of presence, and of messages to the device. */
export interface Start {
  readonly position: StreamPosition
  readonly seen: StreamPosition
  readonly messagesSeen: StreamPosition
}

const noFilter: Filter = {}
const decodeFilter = Schema.decodeUnknownOption(Schema.fromJsonString(Filter))

export const makeSyncParameters = Effect.gen(function* () {
  const readToken = yield* makeReadToken
  const accountData = yield* AccountData

  /** The filter that is given by its ID or as JSON. */
  const filterOf = Effect.fnUntraced(function* (session: Session, given: string | undefined) {
    if (given === undefined || given === "") return noFilter
    if (given.startsWith("{")) {
      const filter = decodeFilter(given)
      return Option.isSome(filter)
        ? filter.value
        : yield* new InvalidParam({ error: "filter: expected a filter ID, or a filter as JSON" })
    }
    // Some clients send 0 instead of no filter.
    if (given === "0") return noFilter
    return yield* Effect.mapError(accountData.filter(session, session.userId, given), (error) =>
      error._tag === "M_NOT_FOUND" ? new InvalidParam({ error: "filter: there is no such filter" }) : error
    ) as Effect.Effect<Filter, MatrixError>
  })

  /** The positions at the end of the earlier answer; none for a token from a lost future, which counts as absent. */
  const startOf = (since: string): Effect.Effect<Start | undefined, MatrixError> =>
    readToken(since).pipe(
      Effect.map(({ cut, position }) => ({
        position,
        seen: cut?.presence ?? position,
        messagesSeen: cut?.toDevice ?? position
      })),
      Effect.catch(({ isLost, reason }) =>
        isLost ? Effect.undefined : Effect.fail(new InvalidParam({ error: `since: ${reason}` }))
      )
    )

  return { filterOf, startOf }
})
