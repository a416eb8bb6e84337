/**
 * Administration of the accounts of this server by today's client API: list a user's sessions, lock and suspend accounts.
 *
 * Whether the caller is an administrator is checked before anything is looked up.
 *
 * Source: "Server Administration" of the client-server specification.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Context, Effect, Layer, Option } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { AccountStandings, type Standing } from "./AccountStandings.ts"
import { Accounts } from "./Accounts.ts"
import { Administration } from "./Administration.ts"
import type { Device } from "./Credentials.ts"

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* Accounts
  const administration = yield* Administration
  const standings = yield* AccountStandings
  const store = yield* AccountStore

  /** An account of this server that is not deactivated. */
  const account = Effect.fnUntraced(function* (userId: UserId) {
    if (serverNameOf(userId) !== serverName) {
      return yield* new InvalidParam({ error: `userId: ${userId} is not a user of this server` })
    }
    const found = yield* store.find(userId)
    if (Option.isNone(found) || found.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${userId}` })
    }
    return found.value
  })

  /** The account that the caller, an administrator, may lock and suspend. */
  const moderated = Effect.fnUntraced(function* (session: Session, userId: UserId) {
    yield* administration.requireAdmin(session)
    const { admin } = yield* account(userId)
    if (admin) return yield* new Forbidden({ error: "Administrators cannot be locked or suspended" })
  })

  return Moderation.of({
    isAdmin: ({ userId }) => Effect.map(store.find(userId), (found) => Option.isSome(found) && found.value.admin),
    standing: Effect.fn("Moderation.standing")(function* (session, userId) {
      yield* moderated(session, userId)
      return standings.of(userId)
    }),
    setStanding: Effect.fn("Moderation.setStanding")(function* (session, userId, change) {
      yield* moderated(session, userId)
      return yield* standings.set(userId, change)
    }),
    devices: Effect.fn("Moderation.devices")(function* (session, userId) {
      if (session.userId !== userId) {
        yield* administration.requireAdmin(session)
        yield* account(userId)
      }
      return yield* accounts.devicesOf(userId)
    })
  })
})

/** Locking, suspending and inspecting accounts by today's client API. Errors: M_FORBIDDEN unless the caller is an administrator. */
export class Moderation extends Context.Service<
  Moderation,
  {
    /** Whether the user is an administrator. Callers: any user. */
    readonly isAdmin: (session: Session) => Effect.Effect<boolean>
    /** The restrictions of an account. Callers: administrators. Errors: M_FORBIDDEN, also for the account of an administrator; M_INVALID_PARAM, M_NOT_FOUND. */
    readonly standing: (session: Session, userId: UserId) => Effect.Effect<Standing, MatrixError>
    /** Undefined fields keep their value. Callers and errors as for `standing`. */
    readonly setStanding: (
      session: Session,
      userId: UserId,
      change: Partial<Standing>
    ) => Effect.Effect<Standing, MatrixError>
    /** The sessions of a user. Callers: the user, and administrators. Errors: M_FORBIDDEN, M_INVALID_PARAM, M_NOT_FOUND. */
    readonly devices: (session: Session, userId: UserId) => Effect.Effect<ReadonlyArray<Device>, MatrixError>
  }
>()("greenroom/actors/Moderation") {
  static readonly layer = Layer.effect(Moderation, make)
}
