/**
 * Users of this server whose content is erased. Every node holds all of them in memory, since they are few and every read of
 * a timeline needs them. New ones arrive with the log.
 *
 * Source: "Account deactivation" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { ErasureStore, erasures } from "@greenroom/store/ErasureStore"
import { EventLog } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { Context, Effect, Layer } from "effect"

const make = Effect.gen(function* () {
  const erased = new Set<UserId>()
  yield* (yield* EventLog).follow((slice) =>
    Effect.sync(() => {
      for (const { row } of rowsOf(slice.rows, erasures)) erased.add(row.userId)
    })
  )
  for (const userId of yield* (yield* ErasureStore).all) erased.add(userId)
  return ErasedUsers.of({ has: (userId) => erased.has(userId), any: () => erased.size > 0 })
})

/** The erased users of this server, in the memory of every node. */
export class ErasedUsers extends Context.Service<
  ErasedUsers,
  {
    readonly has: (userId: UserId) => boolean
    /** Whether there are any. */
    readonly any: () => boolean
  }
>()("greenroom/actors/ErasedUsers") {
  static readonly layer = Layer.effect(ErasedUsers, make)
}
