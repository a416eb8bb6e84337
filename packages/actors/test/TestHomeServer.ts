/**
 * A home server on a fresh database, for tests, and people on it.
 */
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Redacted } from "effect"
import { Accounts } from "../src/Accounts.ts"
import * as HomeServer from "../src/HomeServer.ts"
import type { Session } from "../src/Session.ts"

export const serverName = ServerName.make("green.test")

export const layer = HomeServer.layerOnDatabase({ serverName, dataDir: "unused: the database is given" }).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

/** Registers a user and gives their session. */
export const person = Effect.fnUntraced(function* (localpart: string): Effect.fn.Return<Session, never, Accounts> {
  const accounts = yield* Accounts
  const credentials = yield* Effect.orDie(accounts.register({ localpart, password: Redacted.make("correct horse") }))
  return yield* Effect.orDie(accounts.authenticate(credentials.access_token))
})
