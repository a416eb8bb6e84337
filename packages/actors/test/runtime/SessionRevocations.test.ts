import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Context, Deferred, Effect, Fiber, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { Accounts } from "../../src/account/Accounts.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { SessionRevocations } from "../../src/runtime/SessionRevocations.ts"
import { guest, layer as homeServer, node } from "../TestHomeServer.ts"

const password = Redacted.make("correct horse")

/** Two nodes on one database, and a session that both have authenticated. */
const twoNodes = Effect.gen(function* () {
  const url = yield* TestDatabase.url
  const [first, second] = yield* Effect.all([node(url), node(url)])
  const [here, there] = [Context.get(first, Accounts), Context.get(second, Accounts)]
  const { access_token, device_id } = yield* here.register({ localpart: "alice", password })
  yield* here.authenticate(access_token)
  const session = yield* there.authenticate(access_token)
  return { first, second, here, there, session, access_token, device_id }
})

/** Registers as a connection of a session does. The result waits until the session has ended. */
const end = Effect.fnUntraced(function* (context: Context.Context<SessionRevocations>, session: Session) {
  const ended = yield* Deferred.make<void>()
  const revocations = Context.get(context, SessionRevocations)
  yield* Effect.acquireRelease(
    Effect.sync(() => revocations.onEnd(session, () => Deferred.doneUnsafe(ended, Effect.void))),
    (forget) => Effect.sync(forget)
  )
  return Deferred.await(ended)
})

describe("SessionRevocations", () => {
  it.live("a logout ends the session on every node", () =>
    Effect.gen(function* () {
      const { access_token, first, here, second, session, there } = yield* twoNodes
      const ends = yield* Effect.all([end(first, session), end(second, session)])
      yield* here.logout(session)
      yield* Effect.all(ends)
      assert.strictEqual((yield* Effect.flip(there.authenticate(access_token)))._tag, "M_UNKNOWN_TOKEN")
    })
  )

  it.live("whatever deletes a login ends its session, and no other", () =>
    Effect.gen(function* () {
      const { here, second, session } = yield* twoNodes
      const other = yield* here.login({ user: "alice", password })
      const otherSession = yield* here.authenticate(other.access_token)
      const ended = yield* end(second, session)
      const sql = Context.get(second, PgClient.PgClient)
      yield* sql`DELETE FROM access_tokens WHERE token_id = ${session.tokenId}`
      yield* ended
      assert.isFalse(Context.get(second, SessionRevocations).isOver(otherSession))
    })
  )

  it.live("another login on the device ends the former session, and is not ended with it", () =>
    Effect.gen(function* () {
      const { device_id, here, second, session, there } = yield* twoNodes
      const ended = yield* end(second, session)
      const again = yield* here.openSession(session.userId, { deviceId: device_id })
      yield* ended
      const next = yield* there.authenticate(again.access_token)
      assert.strictEqual(next.tokenId, session.tokenId)
      const revocations = Context.get(second, SessionRevocations)
      assert.deepStrictEqual([revocations.isOver(session), revocations.isOver(next)], [true, false])
    })
  )

  it.live("a listener that registers after the end of a session is called at once", () =>
    Effect.gen(function* () {
      const { here, second, session } = yield* twoNodes
      yield* Effect.flatMap(end(second, session), (ended) => Effect.andThen(here.logout(session), ended))
      yield* Effect.flatten(end(second, session))
    })
  )
})

layer(homeServer)("SessionRevocations", (it) => {
  it.effect("a session ends when its access token expires, and not before", () =>
    Effect.gen(function* () {
      const revocations = yield* SessionRevocations
      const session = { ...guest("alice"), expiresAt: (yield* Clock.currentTimeMillis) + 60_000 }
      const ended = yield* Effect.forkChild(Effect.flatten(end(yield* Effect.context<SessionRevocations>(), session)), {
        startImmediately: true
      })
      yield* TestClock.adjust(59_999)
      assert.isUndefined(ended.pollUnsafe())
      assert.isFalse(revocations.isOver(session))
      yield* TestClock.adjust(1)
      yield* Fiber.join(ended)
      assert.isTrue(revocations.isOver(session))
    })
  )
})
