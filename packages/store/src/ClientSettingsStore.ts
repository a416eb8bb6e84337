/**
 * Filters and push rules: settings that a client stores once and refers to later. Equal filters have the same ID.
 *
 * An error of the database is a defect. Source: "Filtering" and "Push Rules" of the client-server specification.
 */
import { createHash } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { counted } from "./internal/counted.ts"
import { texts } from "./PgArrays.ts"

/** A user's changes of the push rules. */
export interface StoredPushRules {
  readonly userId: UserId
  /** JSON text. */
  readonly settings: string
  /** The transaction of the log since which the notifications of the user are stored as rows. */
  readonly sinceXid: number
}

export class ClientSettingsStore extends Context.Service<
  ClientSettingsStore,
  {
    /** The ID of a filter; none if the user has `most` other filters already. */
    readonly addFilter: (userId: UserId, definition: JsonObject, most: number) => Effect.Effect<Option.Option<string>>
    readonly filter: (userId: UserId, filterId: string) => Effect.Effect<Option.Option<JsonObject>>
    /** The user's changes of the push rules, as JSON. */
    readonly pushRules: (userId: UserId) => Effect.Effect<Option.Option<JsonObject>>
    /** The push rules of these users, or of all who changed them. */
    readonly allPushRules: (userIds?: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<StoredPushRules>>
    /**
     * Stores changed push rules, and the resulting ruleset as account data `m.push_rules`. Returns the number of the transaction;
     * undefined if the rules have changed since they were read as `before`.
     */
    readonly setPushRules: (
      userId: UserId,
      before: JsonObject | undefined,
      settings: JsonObject,
      ruleset: JsonObject
    ) => Effect.Effect<number | undefined>
  }
>()("greenroom/store/ClientSettingsStore") {
  static readonly layer = Layer.effect(
    ClientSettingsStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const addFilter = Effect.fnUntraced(function* (userId: UserId, definition: JsonObject, most: number) {
        const text = JSON.stringify(definition)
        const hash = createHash("sha256").update(text).digest()
        const [known] = yield* sql<{ filter_id: bigint }>`
          SELECT filter_id FROM filters WHERE user_id = ${userId} AND hash = ${hash}`
        if (known !== undefined) return Option.some(String(known.filter_id))
        const [added] = yield* counted(sql)(`filters ${userId}`)(
          sql<{ filter_id: bigint }>`
            INSERT INTO filters (user_id, hash, definition)
            SELECT ${userId}, ${hash}, ${text}
            WHERE (SELECT count(*) FROM filters WHERE user_id = ${userId}) < ${most}
            ON CONFLICT (user_id, hash) DO UPDATE SET hash = excluded.hash RETURNING filter_id`
        )
        return Option.map(Option.fromNullishOr(added), (row) => String(row.filter_id))
      }, Effect.orDie)

      return ClientSettingsStore.of({
        addFilter,
        filter: (userId, filterId) =>
          /^[0-9]{1,15}$/.test(filterId)
            ? sql<{ definition: string }>`
                SELECT definition FROM filters WHERE user_id = ${userId} AND filter_id = ${Number(filterId)}`.pipe(
                Effect.map((rows) =>
                  Option.map(Option.fromNullishOr(rows[0]), (row) => JSON.parse(row.definition) as JsonObject)
                ),
                Effect.orDie
              )
            : Effect.succeedNone,
        pushRules: (userId) =>
          sql<{ settings: string }>`SELECT settings FROM push_rules WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) =>
              Option.map(Option.fromNullishOr(rows[0]), (row) => JSON.parse(row.settings) as JsonObject)
            ),
            Effect.orDie
          ),
        allPushRules: (userIds) =>
          sql<{ user_id: string; settings: string; since: string }>`
            SELECT user_id, settings, since_xid::text AS since FROM push_rules
            WHERE ${userIds === undefined ? sql`true` : sql`user_id = ANY (${texts(userIds)}::text[])`}`.pipe(
            Effect.map((rows) =>
              rows.map(({ settings, since, user_id }) => ({
                userId: user_id as UserId,
                settings,
                sinceXid: Number(since)
              }))
            ),
            Effect.orDie
          ),
        setPushRules: (userId, before, settings, ruleset) =>
          sql<{ xid: string }>`
            WITH changed AS (
              INSERT INTO push_rules (user_id, settings)
              SELECT ${userId}, ${JSON.stringify(settings)}
              WHERE ${before === undefined} OR EXISTS (SELECT 1 FROM push_rules WHERE user_id = ${userId})
              ON CONFLICT (user_id) DO UPDATE SET settings = excluded.settings
              WHERE push_rules.settings = ${before === undefined ? null : JSON.stringify(before)}
              RETURNING 1)
            INSERT INTO account_data (user_id, room_id, type, content)
            SELECT ${userId}, '', 'm.push_rules', ${JSON.stringify(ruleset)} FROM changed
            ON CONFLICT (user_id, room_id, type) DO UPDATE SET content = excluded.content, xid = excluded.xid, nid = excluded.nid
            RETURNING xid::text AS xid`.pipe(
            Effect.map(([row]) => (row === undefined ? undefined : Number(row.xid))),
            Effect.orDie
          )
      })
    })
  )
}
