/**
 * Shared by the endpoints for administrators: others are refused, and every action is in the audit log before it runs, and its failure after.
 */
import { Administration } from "@greenroom/actors/account/Administration"
import { AdminServices } from "@greenroom/actors/admin/AdminServices"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

/** The action, for the audit log. */
export interface AdminAction {
  /** Such as `room.delete`. */
  readonly action: string
  /** A user, a room, content. */
  readonly target?: string | undefined
  readonly reason?: string | undefined
  /** The parameters, without secrets. */
  readonly details?: { readonly [name: string]: unknown } | undefined
}

/** Makes the function that runs an action in the name of the calling administrator. */
export const makeAsAdmin = Effect.gen(function* () {
  const administration = yield* Administration
  const audit = yield* AuditLog
  return <A>(what: AdminAction, act: (admin: UserId) => Effect.Effect<A, MatrixError>) =>
    CurrentSession.use((session) =>
      Effect.andThen(
        administration.requireAdmin(session),
        audit.run(
          { actor: session.userId, ...what, details: withoutUndefined(what.details ?? {}) },
          Effect.suspend(() => act(session.userId))
        )
      )
    )
})

/** The same with the services for administrators, which are loaded when they are first used. */
export const makeAdminActions = Effect.gen(function* () {
  const services = yield* (yield* AdminServices).load
  return { asAdmin: yield* makeAsAdmin, services }
})

/** Leaves absent parameters out of an answer and of the audit log. */
export const withoutUndefined = (object: object): JsonObject =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as JsonObject

/** A page in the form of Synapse's endpoints: `from` counts rows. At most `most` rows. */
export const pageOf = (
  query: { readonly from?: number; readonly limit?: number; readonly dir?: "f" | "b" },
  most = 1_000
) => ({ from: query.from ?? 0, limit: Math.min(query.limit ?? 100, most), descending: query.dir === "b" })

/** `true` and `false` in a query. */
export const flagOf = (value: "true" | "false" | undefined): boolean | undefined =>
  value === undefined ? undefined : value === "true"

/**
 * The order that a query names: one of the names in `orders`. Errors: M_INVALID_PARAM for another one.
 */
export const orderOf = <Order>(
  orders: { readonly [name: string]: Order },
  name: string
): Effect.Effect<Order, InvalidParam> =>
  Object.hasOwn(orders, name)
    ? Effect.succeed(orders[name]!)
    : Effect.fail(new InvalidParam({ error: `order_by: must be one of ${Object.keys(orders).join(", ")}` }))

/** The start of the next page, if there is one. */
export const nextOf = (from: number, count: number, total: number) => (from + count < total ? from + count : undefined)
