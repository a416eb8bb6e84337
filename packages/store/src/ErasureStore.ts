/**
 * Users whose content is hidden from everyone who did not see it before. `AccountStore.deactivate` adds them.
 *
 * Used by `ErasedUsers` alone. An error of the database is a defect.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { logKind } from "./LogKind.ts"

export interface Erasure {
  readonly userId: UserId
}

export const erasures = logKind<Erasure>("erasures", { userId: "user_id" })

export class ErasureStore extends Context.Service<
  ErasureStore,
  {
    readonly all: Effect.Effect<ReadonlyArray<UserId>>
  }
>()("greenroom/store/ErasureStore") {
  static readonly layer = Layer.effect(
    ErasureStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      ErasureStore.of({
        all: sql<{ user_id: UserId }>`SELECT user_id FROM erasures`.pipe(
          Effect.map((rows) => rows.map(({ user_id }) => user_id)),
          Effect.orDie
        )
      })
    )
  )
}
