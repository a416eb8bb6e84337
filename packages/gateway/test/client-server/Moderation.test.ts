import { assert, describe, it, layer } from "@effect/vitest"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Fiber } from "effect"
import { forGuests, groupsWhileSuspended, redactions, whileSuspended } from "../../src/client-api/AccountRules.ts"
import { ask, askToday, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

const makeAdmin = Effect.fnUntraced(function* (name: string) {
  const admin = yield* register(name)
  yield* AccountStore.use((store) => store.setAdmin(admin.id as UserId, true))
  return admin
})

const put = (what: "lock" | "suspend", of: string, value: boolean, by: TestUser) =>
  askToday("PUT", `/v1/admin/${what}/${inPath(of)}`, {
    token: by.token,
    json: { [what === "lock" ? "locked" : "suspended"]: value }
  })

const send = (user: TestUser, room: string, txn: string) =>
  askToday("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${txn}`, {
    token: user.token,
    json: { msgtype: "m.text", body: txn }
  })

layer(gateway, { excludeTestServices: true })("administration of accounts", (it) => {
  it.effect("a lock or a suspension ends the user's waiting requests", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss0")
      const user = yield* register("wally")
      const since = (yield* askToday("GET", "/v3/sync", { token: user.token })).body.next_batch
      const wait = askToday("GET", `/v3/sync?since=${since}&timeout=300000`, { token: user.token })
      // Again and again, for the request may come after a change.
      const suspend = Effect.andThen(put("suspend", user.id, false, admin), put("suspend", user.id, true, admin))
      assert.strictEqual((yield* Effect.raceFirst(wait, Effect.forever(suspend))).status, 200)
      const other = yield* register("will")
      const begin = (yield* askToday("GET", "/v3/sync", { token: other.token })).body.next_batch
      const locked = yield* Effect.forkChild(
        askToday("GET", `/v3/sync?since=${begin}&timeout=300000`, { token: other.token })
      )
      yield* put("lock", other.id, true, admin)
      assert.strictEqual((yield* Fiber.join(locked)).body.errcode, "M_USER_LOCKED")
    })
  )

  it.effect("a locked account can only log out, and goes on with its session once it is unlocked", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss1")
      const user = yield* register("lois")
      const whoami = () => askToday("GET", "/v3/account/whoami", { token: user.token })
      const locked = yield* put("lock", user.id, true, admin)
      assert.deepStrictEqual(locked.body, { locked: true } as never)
      const refused = yield* whoami()
      assert.strictEqual(refused.status, 401)
      assert.deepInclude(refused.body, { errcode: "M_USER_LOCKED", soft_logout: true })
      const login = yield* askToday("POST", "/v3/login", {
        json: { type: "m.login.password", identifier: { type: "m.id.user", user: "lois" }, password: "secret-lois" }
      })
      assert.strictEqual(login.body.errcode, "M_USER_LOCKED")
      const asked = yield* askToday("GET", `/v1/admin/lock/${inPath(user.id)}`, { token: admin.token })
      assert.strictEqual(asked.body.locked, true)
      yield* put("lock", user.id, false, admin)
      assert.strictEqual((yield* whoami()).status, 200)
      yield* put("lock", user.id, true, admin)
      const out = yield* askToday("POST", "/v3/logout", { token: user.token, json: {} })
      assert.strictEqual(out.status, 200)
    })
  )

  it.effect("a suspended account reads, leaves and redacts its own events, and does nothing else to rooms", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss2")
      const user = yield* register("sue")
      const other = yield* register("olga")
      const room = yield* createRoom(user, { preset: "public_chat", visibility: "public" })
      yield* askToday("POST", `/v3/rooms/${inPath(room)}/join`, { token: other.token, json: {} })
      const own = yield* send(user, room, "own")
      const foreign = yield* send(other, room, "foreign")
      const suspension = (of: TestUser, by: TestUser) =>
        askToday("GET", `/v1/admin/suspend/${inPath(of.id)}`, { token: by.token })
      assert.strictEqual((yield* suspension(user, admin)).body.suspended, false)
      yield* put("suspend", user.id, true, admin)
      assert.strictEqual((yield* suspension(user, admin)).body.suspended, true)
      assert.strictEqual((yield* suspension(other, admin)).body.suspended, false)
      assert.strictEqual((yield* suspension(user, other)).body.errcode, "M_FORBIDDEN")
      const refused = [
        yield* send(user, room, "more"),
        yield* askToday("POST", "/v3/createRoom", { token: user.token, json: {} }),
        yield* askToday("PUT", `/v3/profile/${inPath(user.id)}/displayname`, {
          token: user.token,
          json: { displayname: "Sue" }
        }),
        yield* askToday("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(foreign.body.event_id)}/1`, {
          token: user.token,
          json: {}
        }),
        yield* askToday("POST", `/v3/rooms/${inPath(room)}/send/m.room.message`, {
          token: user.token,
          json: { msgtype: "m.text", body: "without a transaction ID" }
        }),
        yield* askToday("POST", `/v3/rooms/${inPath(room)}/redact/${inPath(foreign.body.event_id)}`, {
          token: user.token,
          json: {}
        }),
        yield* ask("POST", "//matrix/content", { token: user.token, body: "a file" }),
        yield* ask("POST", `/presence/list/${inPath(user.id)}`, { token: user.token, json: { invite: [other.id] } })
      ]
      for (const { body, status } of refused) {
        assert.deepStrictEqual([status, body.errcode], [403, "M_USER_SUSPENDED"])
      }
      const allowed = [
        yield* askToday("GET", "/v3/sync", { token: user.token }),
        yield* askToday("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(own.body.event_id)}/2`, {
          token: user.token,
          json: {}
        }),
        yield* askToday("POST", `/v3/rooms/${inPath(room)}/leave`, { token: user.token, json: {} })
      ]
      for (const { status } of allowed) assert.strictEqual(status, 200)
      yield* put("suspend", user.id, false, admin)
      const free = yield* askToday("POST", "/v3/createRoom", { token: user.token, json: {} })
      assert.strictEqual(free.status, 200)
    })
  )

  it.effect("only administrators are allowed, not on each other, and others do not learn which accounts exist", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss3")
      const second = yield* makeAdmin("boss4")
      const user = yield* register("uma")
      const outcomes = [
        yield* put("lock", "@nobody:green.test", true, user),
        yield* put("lock", admin.id, true, user),
        yield* put("suspend", second.id, true, admin),
        yield* put("lock", admin.id, true, admin),
        yield* put("lock", "@alice:elsewhere.test", true, admin),
        yield* put("lock", "@nobody:green.test", true, admin),
        yield* askToday("GET", `/v3/admin/whois/${inPath(admin.id)}`, { token: user.token })
      ]
      assert.deepStrictEqual(
        outcomes.map(({ body }) => body.errcode),
        ["M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_INVALID_PARAM", "M_NOT_FOUND", "M_FORBIDDEN"]
      )
      const capabilities = (token: string) =>
        Effect.map(
          askToday("GET", "/v3/capabilities", { token }),
          ({ body }) => (body.capabilities as { readonly [name: string]: unknown })["m.account_moderation"]
        )
      assert.deepStrictEqual(yield* capabilities(admin.token), { suspend: true, lock: true })
      assert.isUndefined(yield* capabilities(user.token))
    })
  )

  it.effect("an account that is suspended or locked sends no delayed events", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss6")
      for (const how of ["suspend", "lock"] as const) {
        const user = yield* register(`later-${how}`)
        const room = yield* createRoom(user, { preset: "public_chat" })
        const path = `/v3/rooms/${inPath(room)}/delayed_event/m.room.message/1`
        const json = { delay_ms: 600_000, content: { msgtype: "m.text", body: "later" } }
        const { body } = yield* askToday("PUT", path, { token: user.token, json })
        yield* put(how, user.id, true, admin)
        const sent = yield* askToday("POST", `/v1/delayed_events/${body.delay_id}/send`)
        assert.strictEqual(sent.status, 409)
      }
    })
  )

  it.effect("users and administrators see where a user is logged in", () =>
    Effect.gen(function* () {
      const admin = yield* makeAdmin("boss5")
      const user = yield* register("wim")
      const own = yield* askToday("GET", `/v3/admin/whois/${inPath(user.id)}`, { token: user.token })
      const seen = yield* askToday("GET", `/v3/admin/whois/${inPath(user.id)}`, { token: admin.token })
      assert.strictEqual(own.body.user_id, user.id)
      assert.deepStrictEqual(seen.body, own.body)
      const devices = Object.values(own.body.devices as { readonly [id: string]: object })
      assert.lengthOf(devices, 1)
      assert.hasAllKeys(devices[0], ["sessions"])
    })
  )
})

describe("the names in the rules", () => {
  it("are those of endpoints", () => {
    const groups = [ClientApi, ClientServerApi].flatMap((api) => Object.values(api.groups))
    const names = groups.flatMap((group) => Object.keys(group.endpoints).map((name) => `${group.identifier}.${name}`))
    for (const name of [...whileSuspended, ...redactions, ...forGuests]) assert.include(names, name)
    for (const name of groupsWhileSuspended)
      assert.include(groups.map(({ identifier }) => identifier) as unknown[], name)
  })
})
