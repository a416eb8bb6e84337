import { assert, describe, it } from "@effect/vitest"
import { Administration } from "@greenroom/actors/account/Administration"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Result, Schema } from "effect"
import { TestClock } from "effect/testing"
import { defaultRates, RateFromString, unlimited } from "../src/Rate.ts"
import { RateLimit } from "../src/RateLimit.ts"
import { askAdmin, registerAdmin } from "./admin/TestAdmin.ts"
import { connect } from "./socket/TestSocket.ts"
import { ask, askToday, gatewayWith, inPath, outcome, register, type TestUser } from "./TestGateway.ts"

const once = { limit: 1, window: 60_000 }
const rates = { ...defaultRates, sends: { limit: 3, window: 3_000 } }

describe("RateLimit", () => {
  it.effect("a user over their rate gets the time of the next attempt", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (let i = 0; i < 3; i++) yield* limit.take("sends", "@alice:a")
      const refused = yield* Effect.flip(limit.take("sends", "@alice:a"))
      assert.strictEqual(refused._tag, "M_LIMIT_EXCEEDED")
      assert.isAbove(refused.retry_after_ms, 0)
      yield* TestClock.adjust(refused.retry_after_ms)
      yield* limit.take("sends", "@alice:a")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(rates)))
  )

  it.effect("each of several nodes lets its part of the rate pass", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (let i = 0; i < 2; i++) yield* limit.take("sends", "@alice:a")
      assert.strictEqual((yield* Effect.flip(limit.take("sends", "@alice:a")))._tag, "M_LIMIT_EXCEEDED")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(rates, () => 2)))
  )

  it.effect("requests are counted apart for each user and each kind", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (let i = 0; i < 3; i++) yield* limit.take("sends", "@alice:a")
      assert.strictEqual((yield* Effect.flip(limit.take("sends", "@alice:a")))._tag, "M_LIMIT_EXCEEDED")
      yield* limit.take("sends", "@bob:a")
      yield* limit.take("requests", "@alice:a")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(rates)))
  )

  it.effect("the addresses of one IPv6 network are counted together for every kind that is limited by address", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (const kind of ["anonymous", "registrations", "logins"] as const) {
        yield* limit.takeFrom(kind, "2001:db8:1:2::1", "alice")
        const same = limit.takeFrom(kind, "2001:db8:1:2:ffff::1", "alice")
        assert.strictEqual((yield* Effect.flip(same))._tag, "M_LIMIT_EXCEEDED")
        yield* limit.takeFrom(kind, "2001:db8:1:3::1", "alice")
        yield* limit.takeFrom(kind, "2001:db8:1:2::1", "bob")
      }
    }).pipe(Effect.provide(RateLimit.layerOfProcess({ ...rates, anonymous: once, registrations: once, logins: once })))
  )

  it.effect("a bucket that is not full is kept while the buckets of many addresses are removed", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (let i = 0; i < 20_000; i++) yield* limit.takeFrom("anonymous", `10.0.${i >> 8}.${i & 255}`)
      yield* TestClock.adjust(60_000)
      for (let i = 0; i < 3; i++) yield* limit.take("sends", "@alice:a")
      for (let i = 0; i < 20_000; i++) yield* limit.takeFrom("anonymous", `10.1.${i >> 8}.${i & 255}`)
      assert.strictEqual((yield* Effect.flip(limit.take("sends", "@alice:a")))._tag, "M_LIMIT_EXCEEDED")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(rates)))
  )

  it.effect("a clock that is set back does not lengthen a refusal", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      yield* TestClock.setTime(4_000_000)
      for (let i = 0; i < 3; i++) yield* limit.take("sends", "@alice:a")
      yield* TestClock.setTime(400_000)
      const refused = yield* Effect.flip(limit.take("sends", "@alice:a"))
      assert.strictEqual(refused.retry_after_ms, 1_000)
      yield* TestClock.adjust(1_000)
      yield* limit.take("sends", "@alice:a")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(rates)))
  )

  it.effect("a rate that is off is never reached", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit
      for (let i = 0; i < 2_000; i++) yield* limit.take("sends", "@alice:a")
    }).pipe(Effect.provide(RateLimit.layerOfProcess(unlimited)))
  )

  it("rates are written as a number and a time", () => {
    const decode = Schema.decodeUnknownSync(RateFromString)
    assert.deepStrictEqual(decode("500/1s"), { limit: 500, window: 1_000 })
    assert.deepStrictEqual(decode("20/m"), { limit: 20, window: 60_000 })
    assert.strictEqual(decode("off"), "off")
    for (const wrong of ["", "0/1s", "5", "5/", "-1/1s", "5/1d", "1/0s"]) {
      assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(RateFromString)(wrong)), wrong)
    }
  })
})

describe("the rates of the client API", () => {
  const twice = { limit: 2, window: 3_600_000 }
  const gateway = gatewayWith(
    { rates: { ...unlimited, requests: twice, sends: twice } },
    { unlimitedUsers: ["@robot:green.test" as UserId] }
  )

  it.live("do not apply to administrators and to users that the operator exempts", () =>
    Effect.gen(function* () {
      const [user, robot, admin] = [yield* register("someone"), yield* register("robot"), yield* register("boss")]
      yield* Administration.use((administration) => administration.setAdmin("boss", true))
      const read = (token: string) => askToday("GET", "/v3/account/whoami", { token })
      const write = ({ id, token }: typeof user) =>
        ask("PUT", `/profile/${inPath(id)}/displayname`, { token, json: { displayname: "Me" } })
      for (const exempt of [robot, admin]) {
        for (let request = 0; request < 5; request++) {
          assert.strictEqual((yield* read(exempt.token)).status, 200)
          assert.strictEqual((yield* write(exempt)).status, 200)
        }
      }
      for (const request of [read(user.token), write(user)]) {
        assert.deepStrictEqual([(yield* request).status, (yield* request).status], [200, 200])
        const { body, headers, status } = yield* request
        assert.deepStrictEqual([status, body.errcode], [429, "M_LIMIT_EXCEEDED"])
        assert.isAbove(Number(headers.get("retry-after")), 0)
      }
      const profile = yield* askToday("GET", `/v3/profile/${inPath(user.id)}`, { token: user.token })
      assert.strictEqual(profile.status, 429, "also where no access token is needed")
      const opened = yield* Effect.flip(connect(user, "m.json"))
      assert.deepStrictEqual([opened.status, opened.body.errcode], [429, "M_LIMIT_EXCEEDED"])
    }).pipe(Effect.scoped, Effect.provide(gateway))
  )

  it.live("count requests that only read among reads, also where they are made by POST", () =>
    Effect.gen(function* () {
      const asks: ReadonlyArray<readonly [path: string, json: object]> = [
        ["/v3/search", { search_categories: {} }],
        ["/v3/keys/query", { device_keys: {} }],
        ["/v3/user_directory/search", { search_term: "a" }],
        ["/v3/publicRooms", {}],
        ["/unstable/org.matrix.simplified_msc3575/sync", {}],
        ["/v4/sync", { lists: {} }]
      ]
      for (const [index, [path, json]] of asks.entries()) {
        const user = yield* register(`reads-by-post-${index}`)
        const { id, token } = user
        const read = Effect.map(askToday("POST", path, { token, json }), outcome)
        assert.deepStrictEqual([yield* read, yield* read, yield* read], ["200", "200", "429 M_LIMIT_EXCEEDED"], path)
        const write = ask("PUT", `/profile/${inPath(id)}/displayname`, { token, json: { displayname: "Me" } })
        assert.deepStrictEqual([(yield* write).status, (yield* write).status], [200, 200], path)
      }
    }).pipe(Effect.provide(gateway))
  )

  it.live("count requests with wrong access tokens by their address", () =>
    Effect.gen(function* () {
      const guess = (token: string) => Effect.map(askToday("GET", "/v3/account/whoami", { token }), outcome)
      assert.deepStrictEqual(
        [yield* guess("one"), yield* guess("two"), yield* guess("three")],
        ["401 M_UNKNOWN_TOKEN", "401 M_UNKNOWN_TOKEN", "429 M_LIMIT_EXCEEDED"]
      )
    }).pipe(Effect.provide(gatewayWith({ rates: { ...unlimited, anonymous: twice } })))
  )

  it.live("apply to the users of an application service that has rates, and not to its own user", () =>
    Effect.gen(function* () {
      const token = "as-token"
      const username = "_irc_limited"
      yield* askToday("POST", "/v3/register", { token, json: { type: "m.login.application_service", username } })
      const read = (path: string) => Effect.map(askToday("GET", `/v3/account/whoami${path}`, { token }), outcome)
      for (let request = 0; request < 5; request++) assert.strictEqual(yield* read(""), "200")
      const asUser = read(`?user_id=${inPath(`@${username}:green.test`)}`)
      assert.deepStrictEqual([yield* asUser, yield* asUser, yield* asUser], ["200", "200", "429 M_LIMIT_EXCEEDED"])
    }).pipe(
      Effect.provide(
        gatewayWith(
          { rates: { ...unlimited, requests: twice } },
          {
            appServices: [
              {
                id: "bridge",
                url: null,
                as_token: "as-token",
                hs_token: "unused",
                sender_localpart: "bridgebot",
                namespaces: { users: [{ exclusive: true, regex: "@_irc_.*" }] }
              }
            ]
          }
        )
      )
    )
  )

  it.live("of a single user are set and removed by administrators", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss2")
      const write = ({ id, token }: TestUser, count: number) =>
        Effect.forEach(Array.from({ length: count }), () =>
          Effect.map(ask("PUT", `/profile/${inPath(id)}/displayname`, { token, json: { displayname: "Me" } }), outcome)
        )
      const ofRate = (user: TestUser) => (method: string, json?: unknown) =>
        askAdmin(admin, method, `/v1/users/${inPath(user.id)}/override_ratelimit`, json)
      const refused = "429 M_LIMIT_EXCEEDED"
      const bot = yield* register("bot")
      const rate = ofRate(bot)
      assert.deepStrictEqual((yield* rate("GET")).body, {} as never)
      const none = { messages_per_second: 0, burst_count: 0 }
      assert.deepStrictEqual((yield* rate("POST", none)).body, none as never)
      assert.notInclude(yield* write(bot, 5), refused)
      assert.deepStrictEqual((yield* rate("GET")).body, none as never)
      assert.strictEqual((yield* rate("DELETE")).status, 200)
      assert.include(yield* write(bot, 3), refused)
      const slow = yield* register("slow")
      const four = { messages_per_second: 1, burst_count: 4 }
      assert.deepStrictEqual((yield* ofRate(slow)("POST", four)).body, four as never)
      assert.notInclude(yield* write(slow, 4), refused)
      assert.include(yield* write(slow, 4), refused)
      assert.strictEqual((yield* ofRate(slow)("POST", { messages_per_second: -1 })).body.errcode, "M_BAD_JSON")
      assert.strictEqual((yield* ofRate({ ...slow, id: "@nobody:green.test" })("POST", none)).status, 404)
      assert.strictEqual((yield* askAdmin(slow, "GET", `/v1/users/${inPath(slow.id)}/override_ratelimit`)).status, 403)
      const read = Effect.map(askToday("GET", "/v3/account/whoami", { token: slow.token }), outcome)
      assert.deepStrictEqual(
        [yield* read, yield* read],
        ["200", refused],
        "the request before counts; it is a rate of sends"
      )
    }).pipe(Effect.provide(gateway))
  )
})
