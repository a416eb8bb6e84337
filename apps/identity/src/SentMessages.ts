/**
 * The limit of messages per recipient. Counts are in the database, so that restarts and other nodes share them, and under a
 * hash, so that they do not reveal the recipients.
 */

import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { IdentityOptions } from "./IdentityOptions.ts"
import { Secrets } from "./Secrets.ts"

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const secrets = yield* Secrets
  const { addressRate } = yield* IdentityOptions

  const count = Effect.fnUntraced(function* ({ address, medium }: ThirdPartyId) {
    if (addressRate === "off") return
    const now = yield* Clock.currentTimeMillis
    const hash = secrets.hash("message", medium, address)
    yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${Buffer.from(hash).toString("hex")}, 0))`
    const rows = yield* sql<{ sent_at: bigint }>`
      SELECT sent_at FROM sent_messages
      WHERE address_hash = ${hash} AND sent_at > ${now - addressRate.window} AND sent_at <= ${now}
      ORDER BY sent_at DESC LIMIT ${addressRate.limit}`
    if (rows.length >= addressRate.limit) {
      const oldest = Number(rows.at(-1)!.sent_at)
      return yield* new LimitExceeded({
        error: "Too many messages were sent to this address, try again later",
        retry_after_ms: Math.max(1, oldest + addressRate.window - now)
      })
    }
    yield* sql`INSERT INTO sent_messages (address_hash, sent_at) VALUES (${hash}, ${now})`
  })

  const forget = Effect.gen(function* () {
    const window = addressRate === "off" ? 0 : addressRate.window
    yield* sql`DELETE FROM sent_messages WHERE sent_at <= ${(yield* Clock.currentTimeMillis) - window}`
  }).pipe(Effect.orDie)

  return SentMessages.of({
    count: (thirdPartyId) => Effect.catchTag(sql.withTransaction(count(thirdPartyId)), "SqlError", Effect.die),
    forget
  })
})

export class SentMessages extends Context.Service<
  SentMessages,
  {
    /** Counts one message; undone if the surrounding transaction fails. Errors: M_LIMIT_EXCEEDED. */
    readonly count: (thirdPartyId: ThirdPartyId) => Effect.Effect<void, LimitExceeded>
    /** Deletes expired counts. */
    readonly forget: Effect.Effect<void>
  }
>()("greenroom/identity/SentMessages") {
  static readonly layer = Layer.effect(SentMessages, make)
}
