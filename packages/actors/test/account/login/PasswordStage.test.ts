import { assert, layer } from "@effect/vitest"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Tracer } from "effect"
import { Accounts } from "../../../src/account/Accounts.ts"
import { LoginFlows } from "../../../src/account/login/LoginFlows.ts"
import { layer as homeServer, person } from "../../TestHomeServer.ts"

/** Guesses the password of somebody; which hashes that took, and the answer. */
const guess = Effect.fnUntraced(function* (user: string, password: string) {
  const flows = yield* LoginFlows
  const spans: Array<string> = []
  const tracer = Tracer.make({
    span: (options) => {
      spans.push(options.name)
      return new Tracer.NativeSpan(options)
    }
  })
  const error = yield* flows
    .post({
      purpose: "login",
      body: { type: "m.login.password", user, password },
      address: "192.0.2.1",
      publicUrl: "http://green.test"
    })
    .pipe(Effect.flip, Effect.withTracer(tracer))
  return { hashes: spans.filter((name) => name.startsWith("Passwords.")), answer: [error._tag, error.error] }
})

layer(homeServer, { excludeTestServices: true })("m.login.password", (it) => {
  it.effect("does the same work and answers the same for an unknown user as for a wrong password", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      yield* person("alice")
      yield* accounts.unregister(yield* person("gone"))
      const gail = yield* accounts.create({ userId: accounts.toUserId("gail") })
      yield* (yield* UserIdentityStore).bindAddress(gail, { medium: "email", address: "gail@mail.test" })
      const wrong = yield* guess("alice", "wrong")
      assert.deepStrictEqual(wrong.hashes, ["Passwords.verify"])
      for (const user of ["nobody", "gone", "gail", "@alice:elsewhere.test", "Not A User", "@", ""]) {
        assert.deepStrictEqual(yield* guess(user, "wrong"), wrong, user)
      }
      assert.deepStrictEqual(yield* guess("alice", "x".repeat(100_000)), wrong, "a password that is too long")
    })
  )
})
