/**
 * The verdicts of this server as a policy server: one verdict per event for all nodes, kept over restarts for a week.
 *
 * An error of the database is a defect.
 */
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Clock, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

/** The time for which verdicts are kept, in ms. */
const lifetime = 7 * 86_400_000

export interface Verdict {
  /** The reason of the refusal; undefined if the event may pass. */
  readonly refusal: string | undefined
}

interface Row {
  readonly refusal: string | null
}

const toVerdict = ({ refusal }: Row): Verdict => ({ refusal: refusal ?? undefined })

export class PolicyVerdictStore extends Context.Service<
  PolicyVerdictStore,
  {
    /** The verdict of this server as a policy server on an event; undefined if none is stored. */
    readonly find: (eventId: EventId) => Effect.Effect<Verdict | undefined>
    /** Stores a verdict, unless another node has stored one. Returns the stored one. */
    readonly add: (eventId: EventId, verdict: Verdict) => Effect.Effect<Verdict>
  }
>()("greenroom/store/PolicyVerdictStore") {
  static readonly layer: Layer.Layer<PolicyVerdictStore, never, SqlClient.SqlClient> = Layer.effect(
    PolicyVerdictStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const find = (eventId: EventId) =>
        sql<Row>`SELECT refusal FROM policy_verdicts WHERE event_id = ${eventId}`.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : toVerdict(row))),
          Effect.orDie
        )
      return PolicyVerdictStore.of({
        find,
        add: Effect.fnUntraced(function* (eventId, { refusal = null }) {
          const now = yield* Clock.currentTimeMillis
          const [row] = yield* sql<Row>`
            WITH expired AS (DELETE FROM policy_verdicts WHERE judged_at < ${now - lifetime} AND event_id <> ${eventId})
            INSERT INTO policy_verdicts (event_id, refusal, judged_at) VALUES (${eventId}, ${refusal}, ${now})
            ON CONFLICT (event_id) DO UPDATE SET event_id = excluded.event_id
            RETURNING refusal`
          return toVerdict(row!)
        }, Effect.orDie)
      })
    })
  )
}
