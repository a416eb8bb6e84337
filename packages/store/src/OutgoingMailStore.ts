/**
 * Mails that wait for the mail server. A mail stays until the server has taken or refused it, or it is too old.
 *
 * An error of the database is a defect. Times are milliseconds since 1970.
 */
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { dueAt } from "./internal/dueAt.ts"
import { signalWork } from "./WorkSignals.ts"

export interface NewMail {
  /** An address in canonical form; undefined if nothing is sent, and the request must take as long as others. */
  readonly recipient: string | undefined
  readonly subject: string
  readonly text: string
  readonly html: string
}

export interface OutgoingMail extends NewMail {
  /** The same for every attempt. */
  readonly mailId: string
}

/** The longest wait of a mail for its next attempt, in ms. */
export const longestMailWait = 10 * 60_000

/** How long a mail is tried, in ms. */
const keptFor = 24 * 3_600_000

interface Row {
  readonly mail_id: string
  readonly recipient: string | null
  readonly subject: string
  readonly body: string
  readonly html: string
}

const toMail = (row: Row): OutgoingMail => ({
  mailId: row.mail_id,
  recipient: row.recipient ?? undefined,
  subject: row.subject,
  text: row.body,
  html: row.html
})

export class OutgoingMailStore extends Context.Service<
  OutgoingMailStore,
  {
    /** Stores a mail, and signals work of the kind `mails`. */
    readonly add: (mail: NewMail) => Effect.Effect<void>
    /** The mails that are due, the oldest first. */
    readonly due: (limit: number) => Effect.Effect<ReadonlyArray<OutgoingMail>>
    /** Counts an attempt to send a mail. Returns how many there were, this one included; undefined if the mail waits no longer. */
    readonly attempt: (mailId: string) => Effect.Effect<number | undefined>
    /** The mail is due after so many milliseconds, `longestMailWait` at most. */
    readonly retryAfter: (mailId: string, wait: number) => Effect.Effect<void>
    /** The mail was sent, or is given up. */
    readonly remove: (mailId: string) => Effect.Effect<void>
    /** Removes mails that were tried for a day. Returns their number. */
    readonly removeOld: Effect.Effect<number>
    /** When the next one is due. */
    readonly nextAt: Effect.Effect<number | undefined>
  }
>()("greenroom/store/OutgoingMailStore") {
  static readonly layer = Layer.effect(
    OutgoingMailStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const add = Effect.fnUntraced(function* ({ html, recipient, subject, text }: NewMail) {
        const now = yield* Clock.currentTimeMillis
        const added = sql`
          INSERT INTO outgoing_mails (mail_id, recipient, subject, body, html, since, retry_at)
          VALUES (${randomUUID()}, ${recipient ?? null}, ${subject}, ${text}, ${html}, ${now}, ${now})`
        yield* sql.withTransaction(Effect.andThen(added, signalWork(sql, "mails")))
      }, Effect.orDie)

      const due = Effect.fnUntraced(function* (limit: number) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql<Row>`
          SELECT mail_id, recipient, subject, body, html FROM outgoing_mails
          WHERE ${dueAt(sql, now, longestMailWait)} <= ${now}
          ORDER BY retry_at LIMIT ${limit}`
        return rows.map(toMail)
      }, Effect.orDie)

      return OutgoingMailStore.of({
        add,
        due,
        attempt: (mailId) =>
          sql<{ attempts: number }>`
            UPDATE outgoing_mails SET attempts = attempts + 1 WHERE mail_id = ${mailId} RETURNING attempts`.pipe(
            Effect.map(([row]) => row?.attempts),
            Effect.orDie
          ),
        retryAfter: Effect.fnUntraced(function* (mailId, wait) {
          const now = yield* Clock.currentTimeMillis
          yield* sql`UPDATE outgoing_mails SET retry_at = ${now + wait} WHERE mail_id = ${mailId}`
        }, Effect.orDie),
        remove: (mailId) => sql`DELETE FROM outgoing_mails WHERE mail_id = ${mailId}`.pipe(Effect.asVoid, Effect.orDie),
        removeOld: Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const rows = yield* sql`DELETE FROM outgoing_mails WHERE since < ${now - keptFor} RETURNING 1`
          return rows.length
        }).pipe(Effect.orDie),
        nextAt: Clock.currentTimeMillis.pipe(
          Effect.flatMap(
            (now) =>
              sql<{ at: bigint | null }>`SELECT min(${dueAt(sql, now, longestMailWait)}) AS at FROM outgoing_mails`
          ),
          Effect.map(([row]) => (row?.at == null ? undefined : Number(row.at))),
          Effect.orDie
        )
      })
    })
  )
}
