import { assert, describe, it, layer } from "@effect/vitest"
import { Administration } from "@greenroom/actors/account/Administration"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Redacted } from "effect"
import { askGreenroom } from "../admin/TestAdmin.ts"
import { ask, askToday, gatewayWith, inPath, logIn } from "../TestGateway.ts"
import { withMail } from "./TestLogin.ts"

const awaiting = "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL"

const gateway = gatewayWith(
  {},
  { guests: true, login: { registrationApproval: true }, serverNotices: { localpart: "server", name: "Green" } }
)

const password = "a long secret"

const registerToday = (username: string, more: object = {}, query = "") =>
  askToday("POST", `/v3/register${query}`, { json: { username, password, auth: { type: "m.login.dummy" }, ...more } })

const logInToday = (user: string) => logIn(user, password)

const logInByDraft = (user: string) => ask("POST", "/login", { json: { type: "m.login.password", user, password } })

const makeAdmin = Effect.fnUntraced(function* (user: string) {
  yield* Administration.use((administration) =>
    administration.createUser({ user, password: Redacted.make(password), admin: true })
  )
  return (yield* logInToday(user)).body.access_token
})

const waitingUsers = (token: string) =>
  Effect.map(askGreenroom({ token: token }, "GET", "/registrations"), ({ body }) =>
    (body.registrations as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id)
  )

const decide = (token: string, userId: string, how: "approve" | "reject") =>
  askGreenroom({ token: token }, "POST", `/registrations/${inPath(userId)}/${how}`, {})

layer(gateway, { excludeTestServices: true, timeout: "60 seconds" })("registration by approval", (it) => {
  it.effect("new accounts of both generations of the API cannot log in before an administrator has approved them", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("chief")
      const today = yield* registerToday("tia")
      assert.deepStrictEqual([today.status, today.body.errcode], [403, awaiting])
      assert.strictEqual(today.body.approval_notice_medium, "org.matrix.msc3866.none")
      const silent = yield* registerToday("sue", { inhibit_login: true })
      assert.deepStrictEqual([silent.status, silent.body.errcode], [403, awaiting])
      const old = yield* ask("POST", "/register", { json: { type: "m.login.password", user: "oda", password } })
      assert.deepStrictEqual([old.status, old.body.errcode], [403, awaiting])
      // A retry creates no second account.
      assert.strictEqual((yield* registerToday("tia")).body.errcode, "M_USER_IN_USE")
      assert.deepStrictEqual(yield* waitingUsers(admin), ["@tia:green.test", "@sue:green.test", "@oda:green.test"])
      for (const answer of [yield* logInToday("tia"), yield* logInByDraft("tia"), yield* logInByDraft("oda")]) {
        assert.deepStrictEqual([answer.status, answer.body.errcode], [403, awaiting])
      }
      assert.strictEqual((yield* decide(admin, "@tia:green.test", "approve")).status, 200)
      const tia = yield* logInToday("tia")
      assert.strictEqual(tia.body.user_id, "@tia:green.test")
      assert.strictEqual((yield* logInByDraft("tia")).status, 200)
      assert.strictEqual((yield* logInToday("oda")).body.errcode, awaiting)

      const again = yield* decide(admin, "@tia:green.test", "approve")
      assert.deepStrictEqual([again.status, again.body.errcode], [400, "M_UNKNOWN"])
      const late = yield* decide(admin, "@tia:green.test", "reject")
      assert.deepStrictEqual([late.status, late.body.errcode], [400, "M_UNKNOWN"])
      assert.strictEqual((yield* logInToday("tia")).status, 200)
      assert.strictEqual((yield* decide(admin, "@nobody:green.test", "approve")).body.errcode, "M_NOT_FOUND")

      assert.strictEqual((yield* decide(admin, "@oda:green.test", "reject")).status, 200)
      assert.strictEqual((yield* logInToday("oda")).status, 403)
      const twice = yield* decide(admin, "@oda:green.test", "reject")
      assert.deepStrictEqual([twice.status, twice.body.errcode], [400, "M_UNKNOWN"])
      assert.strictEqual((yield* decide(admin, "@oda:green.test", "approve")).body.errcode, "M_UNKNOWN")
      assert.strictEqual((yield* registerToday("oda")).body.errcode, "M_USER_IN_USE")

      const refused = yield* askGreenroom({ token: tia.body.access_token }, "GET", "/registrations")
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
      const self = yield* decide(tia.body.access_token, "@sue:green.test", "approve")
      assert.deepStrictEqual([self.status, self.body.errcode], [403, "M_FORBIDDEN"])
      assert.deepStrictEqual(yield* waitingUsers(admin), ["@sue:green.test"])
      const audit = yield* askGreenroom({ token: admin }, "GET", "/audit?limit=100")
      const actions = (audit.body.entries as ReadonlyArray<{ readonly action: string; readonly target?: string }>)
        .filter(({ action }) => /^registration\.(approve|reject)$/.test(action))
        .map(({ action, target }) => `${action} ${target}`)
      assert.includeMembers(actions, ["registration.approve @tia:green.test", "registration.reject @oda:green.test"])
      assert.notInclude(actions, "registration.approve @sue:green.test")
    })
  )

  it.effect("Synapse's administration API lists waiting users, and approves them", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("chief-of-tools")
      yield* registerToday("una")
      const path = `//_synapse/admin/v2/users/${inPath("@una:green.test")}`
      assert.strictEqual((yield* ask("GET", path, { token: admin })).body.approved, false)
      const approved = yield* ask("PUT", path, { token: admin, json: { approved: true } })
      assert.deepStrictEqual([approved.status, approved.body.approved], [200, true])
      assert.strictEqual((yield* logInToday("una")).status, 200)
    })
  )

  it.effect("a guest who registers waits for approval, without guest access meanwhile", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("chief-of-guests")
      const guest = yield* askToday("POST", "/v3/register?kind=guest", { json: {} })
      assert.strictEqual(guest.status, 200, guest.text)
      const { access_token: token, user_id: userId } = guest.body
      const username = userId.slice(1, userId.indexOf(":"))
      const upgraded = yield* registerToday(username, { guest_access_token: token })
      assert.strictEqual(upgraded.body.errcode, awaiting)
      assert.strictEqual((yield* askToday("GET", "/v3/account/whoami", { token })).status, 401)
      yield* decide(admin, userId, "approve")
      assert.strictEqual((yield* logInToday(username)).body.user_id, userId)
    })
  )

  it.effect("administrators get a notice when the first account waits, and the user ID of its sender is reserved", () =>
    Effect.gen(function* () {
      const reserved = yield* registerToday("server")
      assert.strictEqual(reserved.body.errcode, "M_USER_IN_USE")
      const made = yield* Effect.flip(
        Administration.use((administration) => administration.createUser({ user: "server" }))
      )
      assert.match(made.error, /@server:green\.test sends server notices/)
      const admin = yield* makeAdmin("chief-of-notices")
      for (const userId of yield* waitingUsers(admin)) yield* decide(admin, userId, "approve")
      yield* registerToday("noa")
      const invited = Effect.map(
        askToday("GET", "/v3/sync?timeout=1000", { token: admin }),
        ({ body }) => Object.keys((body.rooms as { readonly invite?: object } | undefined)?.invite ?? {}).length
      )
      assert.strictEqual(yield* Effect.repeat(invited, { until: (count) => count > 0 }), 1)
    })
  )
})

describe("mails about approvals", () => {
  it.live("notify the address of an account of its approval or rejection", () =>
    withMail({ registrationApproval: true }, (mail) =>
      Effect.gen(function* () {
        const admin = yield* makeAdmin("chief")
        for (const user of ["yes", "no"]) {
          yield* registerToday(user)
          const bound = UserIdentityStore.use((store) =>
            store.bindAddress(`@${user}:green.test` as UserId, { medium: "email", address: `${user}@mail.test` })
          )
          assert.isTrue(yield* bound)
        }
        yield* decide(admin, "@yes:green.test", "approve")
        yield* decide(admin, "@no:green.test", "reject")
        const [approved, rejected] = [yield* mail.next("yes@mail.test"), yield* mail.next("no@mail.test")]
        assert.strictEqual(approved.headers.subject, "Your account at green.test can be used")
        assert.include(approved.body, "@yes:green.test")
        assert.strictEqual(rejected.headers.subject, "Your account at green.test was not approved")
        assert.include(rejected.body, "@no:green.test")
      })
    )
  )
})
