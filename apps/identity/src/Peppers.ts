/**
 * The pepper of address hashes. It is replaced from time to time, so that a precomputed table of hashes is soon worthless.
 * The previous pepper stays valid until the next change, for clients that have just read it.
 *
 * The hashes of all associations are stored, and computed anew by the database when the pepper changes.
 */
import { randomBytes } from "node:crypto"
import { periodically } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { lockAssociations } from "./AssociationLock.ts"
import { IdentityOptions } from "./IdentityOptions.ts"

/** The current pepper and the previous one. */
interface PepperPair {
  readonly current: string
  readonly previous: string
}

const newPepper = (): string => randomBytes(24).toString("base64url")

/** How often the age of the pepper is checked. */
const checkInterval = "10 minutes"

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { pepperLifetime } = yield* IdentityOptions

  const rows = sql<{ pepper: string; created_at: bigint }>`
    SELECT pepper, created_at FROM peppers ORDER BY id DESC LIMIT 2`

  const insert = Effect.fnUntraced(function* (now: number) {
    const pepper = newPepper()
    yield* sql`INSERT INTO peppers (pepper, created_at) VALUES (${pepper}, ${now})`
    yield* sql`
      UPDATE associations SET previous_hash = hash, hash = translate(rtrim(encode(
        sha256(convert_to(address || ' ' || medium || ' ' || ${pepper}, 'UTF8')), 'base64'), '='), '+/', '-_')`
    yield* sql`DELETE FROM peppers WHERE id < (SELECT max(id) - 1 FROM peppers)`
  })

  /** Replaces the pepper under the lock of associations, so that none is written with the former peppers meanwhile. */
  const replaceIfOlder = (age: number) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* lockAssociations(sql)
        const now = yield* Clock.currentTimeMillis
        const newest = (yield* rows)[0]
        if (newest === undefined || Math.abs(now - Number(newest.created_at)) >= age) yield* insert(now)
      })
    )

  const pair: Effect.Effect<PepperPair> = Effect.orDie(
    Effect.map(rows, ([newest, before]) => ({
      current: newest!.pepper,
      previous: before?.pepper ?? newest!.pepper
    }))
  )

  yield* replaceIfOlder(pepperLifetime)
  yield* periodically("Replacing the pepper of lookups", checkInterval, replaceIfOlder(pepperLifetime))
  return Peppers.of({ pair, replace: Effect.orDie(replaceIfOlder(0)) })
})

export class Peppers extends Context.Service<
  Peppers,
  {
    readonly pair: Effect.Effect<PepperPair>
    /** Replaces the pepper immediately. */
    readonly replace: Effect.Effect<void>
  }
>()("greenroom/identity/Peppers") {
  static readonly layer: Layer.Layer<Peppers, SqlError.SqlError, SqlClient.SqlClient | IdentityOptions> = Layer.effect(
    Peppers,
    make
  )
}
