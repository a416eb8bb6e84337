/**
 * Presence lists: the users whom a user observes, and whether these have accepted. An accepted observer can see the user's
 * presence, and profile fields meant for contacts.
 *
 * Used by `Users` and `Presences`. An error of the database is a defect.
 *
 * Source: "Presence List" of the draft.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { texts } from "./PgArrays.ts"

export interface PresenceListRow {
  readonly userId: UserId
  /** Whether that user accepted to be seen. */
  readonly accepted: boolean
}

/** The state before an invitation: none, one that waits for an answer, or one that was accepted. */
export type Invited = "new" | "pending" | "accepted"

export class PresenceListStore extends Context.Service<
  PresenceListStore,
  {
    /** The users whom the observer wants to see, in the order of their IDs. */
    readonly list: (observer: UserId) => Effect.Effect<ReadonlyArray<PresenceListRow>>
    /** The observers whom a user accepted. */
    readonly observers: (observed: UserId) => Effect.Effect<ReadonlyArray<UserId>>
    /** The accepted observers of each of the users, in one query. */
    readonly observersOfAll: (
      observed: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<UserId, ReadonlyArray<UserId>>>
    /** The observers that asked for a user's presence and have no answer yet. */
    readonly invitations: (observed: UserId) => Effect.Effect<ReadonlyArray<UserId>>
    /** Puts a user on the observer's list. */
    readonly invite: (observer: UserId, observed: UserId) => Effect.Effect<Invited>
    /** The observed user gives permission. False if the observer did not ask. */
    readonly accept: (observed: UserId, observer: UserId) => Effect.Effect<boolean>
    /**
     * The observed user refuses or withdraws permission: they are removed from the observer's list, and `denied` is true until the next
     * `accept`. False if they were not on the list.
     */
    readonly deny: (observed: UserId, observer: UserId) => Effect.Effect<boolean>
    /** Whether the observed user denied the observer, and has not accepted them since. */
    readonly denied: (observed: UserId, observer: UserId) => Effect.Effect<boolean>
    /** Removes users from the observer's list. Returns those who were on it. */
    readonly drop: (observer: UserId, observed: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<UserId>>
    /** Whether the observed user accepted the observer. */
    readonly accepted: (observed: UserId, observer: UserId) => Effect.Effect<boolean>
    /** Removes a user from all lists, and deletes their own. */
    readonly removeAll: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/store/PresenceListStore") {
  static readonly layer = Layer.effect(
    PresenceListStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const userIds = (statement: Statement.Statement<{ user_id: string }>) =>
        statement.pipe(
          Effect.map((rows) => rows.map((row) => row.user_id as UserId)),
          Effect.orDie
        )
      const any = (statement: Statement.Statement<object>) =>
        statement.pipe(
          Effect.map((rows) => rows.length > 0),
          Effect.orDie
        )

      const invite = Effect.fn("PresenceListStore.invite")(function* (observer: UserId, observed: UserId) {
        // The update changes nothing, but makes an existing row visible to RETURNING. xmax distinguishes the two cases.
        const rows = yield* sql<{ accepted: boolean; inserted: boolean }>`
          INSERT INTO presence_lists (observer, observed, accepted) VALUES (${observer}, ${observed}, false)
          ON CONFLICT (observer, observed) DO UPDATE SET accepted = presence_lists.accepted
          RETURNING accepted, xmax = 0 AS inserted`
        const row = rows[0]!
        return row.inserted ? "new" : row.accepted ? "accepted" : ("pending" as Invited)
      }, Effect.orDie)

      const observersOfAll = (observed: ReadonlyArray<UserId>) =>
        sql<{ observer: string; observed: string }>`
          SELECT observer, observed FROM presence_lists
          WHERE observed = ANY (${texts(observed)}::text[]) AND accepted`.pipe(
          Effect.map((rows) => {
            const found = new Map<UserId, Array<UserId>>(observed.map((userId) => [userId, []]))
            for (const row of rows) found.get(row.observed as UserId)?.push(row.observer as UserId)
            return found
          }),
          Effect.orDie
        )

      return PresenceListStore.of({
        observersOfAll,
        list: (observer) =>
          sql<{ observed: string; accepted: boolean }>`
            SELECT observed, accepted FROM presence_lists WHERE observer = ${observer}
            ORDER BY observed COLLATE "C"`.pipe(
            Effect.map((rows) =>
              rows.map((row): PresenceListRow => ({ userId: row.observed as UserId, accepted: row.accepted }))
            ),
            Effect.orDie
          ),
        observers: (observed) =>
          userIds(sql`SELECT observer AS user_id FROM presence_lists WHERE observed = ${observed} AND accepted`),
        invitations: (observed) =>
          userIds(sql`
            SELECT observer AS user_id FROM presence_lists WHERE observed = ${observed} AND NOT accepted
            ORDER BY observer COLLATE "C"`),
        invite,
        accept: (observed, observer) =>
          any(sql`
            WITH forgotten AS (
              DELETE FROM presence_denials WHERE observed = ${observed} AND observer = ${observer}
            )
            UPDATE presence_lists SET accepted = true
            WHERE observer = ${observer} AND observed = ${observed} RETURNING 1`),
        deny: (observed, observer) =>
          any(sql`
            WITH denied AS (
              DELETE FROM presence_lists WHERE observer = ${observer} AND observed = ${observed}
              RETURNING observed, observer
            ), remembered AS (
              INSERT INTO presence_denials (observed, observer) SELECT observed, observer FROM denied
              ON CONFLICT DO NOTHING
            )
            SELECT 1 FROM denied`),
        denied: (observed, observer) =>
          any(sql`SELECT 1 FROM presence_denials WHERE observed = ${observed} AND observer = ${observer}`),
        drop: (observer, observed) =>
          userIds(sql`
            DELETE FROM presence_lists
            WHERE observer = ${observer} AND observed = ANY (${texts(observed)}::text[])
            RETURNING observed AS user_id`),
        accepted: (observed, observer) =>
          any(sql`
            SELECT 1 FROM presence_lists WHERE observer = ${observer} AND observed = ${observed} AND accepted`),
        removeAll: (userId) =>
          sql`
            WITH forgotten AS (DELETE FROM presence_denials WHERE observed = ${userId})
            DELETE FROM presence_lists WHERE observer = ${userId} OR observed = ${userId}`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}
