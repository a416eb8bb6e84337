/**
 * The progress of application services: a position in the log, and the transaction in flight, which is stored before it is sent and
 * repeated byte for byte. A sender writes under its fencing token: once another sender has started, its writes fail.
 *
 * An error of the database is a defect. Source: "Pushing events" of the application service API.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Context, Data, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "./PgArrays.ts"

/** Another sender has begun to serve the application service. */
export class SenderReplaced extends Data.TaggedError("SenderReplaced")<{ readonly serviceId: string }> {
  override get message(): string {
    return `another sender serves the application service ${this.serviceId}`
  }
}

export interface AppServiceTransaction {
  readonly id: number
  /** JSON, as it is sent. */
  readonly body: string
}

export interface AppServiceProgress {
  readonly fence: number
  /** The token of the position after which the next transaction begins. */
  readonly sentTo: string
  readonly inFlight: AppServiceTransaction | undefined
}

/** The device of a session without one. Device IDs of logins are made of letters, digits, `-` and `_`: this is none. */
export const noDevice = (serviceId: string): string => `appservice:${serviceId}`

export class AppServiceStore extends Context.Service<
  AppServiceStore,
  {
    /** Adds the services that are new: their transactions begin after the token `now`. */
    readonly add: (serviceIds: ReadonlyArray<string>, now: string) => Effect.Effect<void>
    /** Starts a sender of an added service, with a fencing token above those of all earlier senders. */
    readonly begin: (serviceId: string) => Effect.Effect<AppServiceProgress>
    /** Stores a position up to which the log has nothing for the service. */
    readonly skipTo: (serviceId: string, fence: number, sentTo: string) => Effect.Effect<void, SenderReplaced>
    /**
     * Stores the next transaction, which covers the log up to a position. Its ID is the time in ms, or the next number if that is taken: a
     * database that was restored from a backup must not give an ID again, since services ignore transactions with an ID that they know.
     */
    readonly prepare: (
      serviceId: string,
      fence: number,
      sentTo: string,
      body: string
    ) => Effect.Effect<AppServiceTransaction, SenderReplaced>
    /** Completes the transaction in flight, which the service has accepted. */
    readonly acknowledge: (serviceId: string, fence: number) => Effect.Effect<void, SenderReplaced>
    /**
     * The token ID by which a service acts as a user, or as a device of theirs, always the same. Negative. What is missing, where there is
     * no such account, or no such device.
     */
    readonly tokenId: (
      serviceId: string,
      userId: UserId,
      deviceId: string | undefined
    ) => Effect.Effect<number | "account" | "device">
  }
>()("greenroom/store/AppServiceStore") {
  static readonly layer = Layer.effect(
    AppServiceStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const add = (serviceIds: ReadonlyArray<string>, now: string) =>
        Effect.asVoid(
          Effect.orDie(sql`
            INSERT INTO app_services (service_id, sent_to)
            SELECT service_id, ${now} FROM unnest(${texts(serviceIds)}::text[]) AS service_id
            ON CONFLICT (service_id) DO NOTHING`)
        )

      const begin = Effect.fn("AppServiceStore.begin")(function* (serviceId: string) {
        const [row] = yield* sql<{ fence: bigint; sent_to: string; transaction_id: bigint; body: string | null }>`
          UPDATE app_services SET fence = fence + 1 WHERE service_id = ${serviceId}
          RETURNING fence, sent_to, transaction_id, body`
        const { body, fence, sent_to, transaction_id } = row!
        const inFlight = body === null ? undefined : { id: Number(transaction_id), body }
        return { fence: Number(fence), sentTo: sent_to, inFlight }
      }, Effect.orDie)

      const fenced = <A>(serviceId: string, rows: ReadonlyArray<A>): Effect.Effect<A, SenderReplaced> =>
        rows[0] === undefined ? Effect.fail(new SenderReplaced({ serviceId })) : Effect.succeed(rows[0])

      const skipTo = Effect.fnUntraced(function* (serviceId: string, fence: number, sentTo: string) {
        const rows = yield* Effect.orDie(sql`
          UPDATE app_services SET sent_to = ${sentTo}
          WHERE service_id = ${serviceId} AND fence = ${fence} RETURNING 1`)
        yield* fenced(serviceId, rows)
      })

      const prepare = Effect.fnUntraced(function* (serviceId: string, fence: number, sentTo: string, body: string) {
        const rows = yield* Effect.orDie(sql<{ transaction_id: bigint }>`
          UPDATE app_services SET sent_to = ${sentTo}, body = ${body},
            transaction_id = greatest(transaction_id + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
          WHERE service_id = ${serviceId} AND fence = ${fence} AND body IS NULL RETURNING transaction_id`)
        const { transaction_id } = yield* fenced(serviceId, rows)
        return { id: Number(transaction_id), body }
      })

      const acknowledge = Effect.fnUntraced(function* (serviceId: string, fence: number) {
        const rows = yield* Effect.orDie(sql`
          UPDATE app_services SET body = NULL WHERE service_id = ${serviceId} AND fence = ${fence} RETURNING 1`)
        yield* fenced(serviceId, rows)
      })

      // Waits for a concurrent deactivation of the account, or end of the device: each ends the sessions that it finds.
      const tokenId = Effect.fnUntraced(function* (serviceId: string, userId: UserId, deviceId: string | undefined) {
        const stored = deviceId ?? noDevice(serviceId)
        const [known] = yield* sql<{ token_id: bigint }>`
          SELECT token_id FROM app_service_sessions
          WHERE service_id = ${serviceId} AND user_id = ${userId} AND device_id = ${stored}`
        if (known !== undefined) return Number(known.token_id)
        const [row] = yield* sql<{ active: boolean; token_id: bigint | null }>`
          WITH active AS MATERIALIZED (
            SELECT user_id FROM users WHERE user_id = ${userId} AND deactivated_at IS NULL FOR SHARE),
          device AS MATERIALIZED (
            SELECT FROM access_tokens WHERE user_id = ${userId} AND device_id = ${stored} FOR KEY SHARE),
          made AS (
            INSERT INTO app_service_sessions (service_id, user_id, device_id)
            SELECT ${serviceId}, user_id, ${stored} FROM active
            WHERE ${deviceId === undefined} OR EXISTS (SELECT FROM device)
            ON CONFLICT (service_id, user_id, device_id) DO UPDATE SET user_id = excluded.user_id RETURNING token_id)
          SELECT EXISTS (SELECT FROM active) AS active, (SELECT token_id FROM made) AS token_id`
        if (row!.token_id !== null) return Number(row!.token_id)
        return row!.active ? "device" : "account"
      }, Effect.orDie)

      return AppServiceStore.of({ add, begin, skipTo, prepare, acknowledge, tokenId })
    })
  )
}
