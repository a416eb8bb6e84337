/**
 * Signals of changed and ended sessions between nodes, by `NOTIFY`: every node gets all signals, in commit order. The
 * database itself sends those of ended logins, in the commit that ends them.
 *
 * A node that has received its own signal has received every signal of earlier commits.
 *
 * Source: PostgreSQL, "NOTIFY".
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, Layer, Queue, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { keepRunning } from "./Supervision.ts"

const channel = "greenroom_sessions"

/** How long to wait before listening again after the connection was lost. */
const reconnectInterval = "200 millis"

/** The idle time after which the connection is probed. */
const keepAlive = "15 seconds"

export type SessionSignal =
  /** The login of this token ID has ended, at this position (`xid`) of the log. Sent by the database. */
  | readonly ["ended", tokenId: number, since: number]
  /** The login has another access token. Sent by the database. */
  | readonly ["changed", tokenId: number]
  /** A node sends this to receive it itself. */
  | readonly ["probe", number: number, from: string]
  /** A node asks the others to confirm that they have received all signals until here, and followed the log to the end of a transaction. */
  | readonly ["ask", number: number, from: string, xid?: number]
  | readonly ["heard", number: number, from: string, by: string]

export interface SessionListener {
  /** The node listens from now on. Earlier signals may have been missed. */
  readonly joined: () => void
  readonly hear: (signal: SessionSignal) => void
}

const make = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient

  const listenOnce = Effect.fnUntraced(function* ({ hear, joined }: SessionListener) {
    const connection = yield* PgConnection.make({ ...sql.config, keepAlive, multiplex: false })
    const signals = yield* connection.listen(channel)
    joined()
    while (true) hear(JSON.parse((yield* Queue.take(signals)).payload) as SessionSignal)
  }, Effect.scoped)

  return SessionSignals.of({
    send: (signal) => Effect.asVoid(sql`SELECT pg_notify(${channel}, ${JSON.stringify(signal)})`),
    listen: (listener) =>
      keepRunning("Listening for signals of sessions", listenOnce(listener), {
        pause: reconnectInterval,
        isExpected: true
      })
  })
})

export class SessionSignals extends Context.Service<
  SessionSignals,
  {
    readonly send: (signal: SessionSignal) => Effect.Effect<void, SqlError.SqlError>
    /** Listens on a connection of its own until the scope closes. */
    readonly listen: (listener: SessionListener) => Effect.Effect<void, never, Scope.Scope>
  }
>()("greenroom/store/SessionSignals") {
  static readonly layer = Layer.effect(SessionSignals, make)
}
