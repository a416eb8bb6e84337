/** Requests of other servers about users: profiles, and the user of an OpenID token. */
import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { hostileNetwork } from "./support/HostileNetwork.ts"
import { expectOk, type HomeServer } from "./support/Network.ts"
import { createRoom } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

const network = hostileNetwork(["red.test", "blue.test"], { dialect: "today" })

class Servers extends Context.Service<Servers, Effect.Success<typeof network>>()("greenroom/test/PersonalQueries") {
  static readonly layer = Layer.effect(Servers, network)
}

const start = Effect.map(Servers, ({ evil, servers }) => {
  const [red, blue] = servers as [HomeServer, HomeServer]
  const profile = (query: string, overrides?: Parameters<typeof evil.ask>[4]) =>
    evil.ask(red, "GET", `/v1/query/profile?${query}`, undefined, overrides)
  /** Requests the user of an OpenID token, without a signature. */
  const owner = (query: string, server = red) =>
    evil.ask(server, "GET", `/v1/openid/userinfo${query}`, undefined, { authorization: "" })
  const ownerOf = (token: string, server = red) => owner(`?access_token=${encodeURIComponent(token)}`, server)
  return { evil, red, blue, profile, ownerOf, owner }
})

const requestToken = (person: Person): Effect.Effect<Body> =>
  expectOk(person.ask("POST", `//_matrix/client/v3/user/${encodeURIComponent(person.userId)}/openid/request_token`, {}))

const deactivate = (person: Person, user: string) =>
  expectOk(
    person.ask("POST", "//_matrix/client/v3/account/deactivate", {
      auth: { type: "m.login.password", identifier: { type: "m.id.user", user }, password: `secret of ${user}` }
    })
  )

const unknownToken = { status: 401, errcode: "M_UNKNOWN_TOKEN" }

const refusalOf = ({ body, status }: { readonly body: Body; readonly status: number }) => ({
  status,
  errcode: body.errcode
})

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Queries about users", (it) => {
  it.effect(
    "a server that shares no room gets the public fields of a profile, and one that shares a room also those for rooms",
    () =>
      Effect.gen(function* () {
        const { evil, profile, red } = yield* start
        const alice = yield* red.register("alice")
        const set = (field: string, value: string, visibility: string) =>
          expectOk(
            alice.ask("PUT", `/profile/${encodeURIComponent(alice.userId)}/${field}`, { [field]: value, visibility })
          )
        yield* set("displayname", "Alice", "public")
        yield* set("email", "alice@red.test", "rooms")
        yield* set("phone", "1", "private")
        const ask = (field?: string) =>
          profile(`user_id=${encodeURIComponent(alice.userId)}${field === undefined ? "" : `&field=${field}`}`)
        assert.deepStrictEqual((yield* ask()).body, { displayname: "Alice" })
        for (const field of ["email", "phone", "nothing", "__proto__", "constructor"]) {
          assert.deepStrictEqual(refusalOf(yield* ask(field)), { status: 404, errcode: "M_NOT_FOUND" }, field)
        }
        const room = yield* createRoom(alice, "11")
        yield* evil.join(red, room, "@mallory:evil.test")
        assert.deepStrictEqual((yield* ask()).body, { displayname: "Alice", email: "alice@red.test" })
        assert.strictEqual((yield* ask("phone")).status, 404)
      })
  )

  it.effect(
    "a server answers only for its own users, and sends no request to another server for an unauthenticated caller",
    () =>
      Effect.gen(function* () {
        const { blue, evil, profile, red } = yield* start
        const bob = yield* blue.register("bob")
        const before = evil.asked.length
        const unknownUsers = [bob.userId, "@x:evil.test", "@nobody:red.test", "@BOB:red.test"]
        const statuses = yield* Effect.forEach(unknownUsers, (user) =>
          Effect.map(profile(`user_id=${encodeURIComponent(user)}`), ({ status }) => status)
        )
        assert.deepStrictEqual(statuses, [404, 404, 404, 404])
        for (const odd of [
          "",
          "user_id=",
          "user_id=alice",
          "user_id=@:red.test",
          "user_id=@a:red.test&field=%00",
          `user_id=${"@a".repeat(40_000)}`,
          "user_id=%ff"
        ]) {
          assert.include([400, 404, 414, 431], (yield* profile(odd)).status, odd.slice(0, 20))
        }
        assert.strictEqual(evil.asked.length, before)
        const gone = yield* red.register("gone")
        yield* deactivate(gone, "gone")
        assert.strictEqual((yield* profile(`user_id=${encodeURIComponent(gone.userId)}`)).status, 404)
      })
  )

  it.effect("requests for a profile with a wrong origin, destination or URI, or without a signature, are refused", () =>
    Effect.gen(function* () {
      const { profile, red } = yield* start
      const query = `user_id=${encodeURIComponent((yield* red.register("asked")).userId)}`
      assert.strictEqual((yield* profile(query)).status, 200)
      const overrides = [
        { authorization: "" },
        { head: { destination: "blue.test" as never } },
        { head: { origin: "blue.test" as never } },
        { head: { uri: "/_matrix/federation/v1/query/profile" } }
      ]
      for (const override of overrides) {
        assert.include([401, 403], (yield* profile(query, override)).status, JSON.stringify(override))
      }
    })
  )

  it.effect("an OpenID token identifies the user that requested it, and parts of it or other texts are unknown", () =>
    Effect.gen(function* () {
      const { blue, owner, ownerOf, red } = yield* start
      const [ann, ben] = [yield* red.register("ann"), yield* red.register("ben")]
      const [ofAnn, ofBen] = [yield* requestToken(ann), yield* requestToken(ben)]
      assert.deepStrictEqual((yield* ownerOf(ofAnn.access_token)).body, { sub: ann.userId })
      assert.deepStrictEqual((yield* ownerOf(ofBen.access_token)).body, { sub: ben.userId })
      const { access_token: token } = ofAnn
      const guesses = [
        token.slice(0, -1),
        `${token}A`,
        token.toUpperCase(),
        token.replace("gro_", ""),
        ` ${token}`,
        ann.token,
        "%",
        "' OR 1=1 --"
      ]
      for (const guess of guesses) assert.deepStrictEqual(refusalOf(yield* ownerOf(guess)), unknownToken, guess)
      assert.deepStrictEqual(refusalOf(yield* ownerOf(token, blue)), unknownToken, "of another server")
      for (const odd of ["", "?access_token=", `?access_token=${token}%00`, `?access_token=${"a".repeat(2_000)}`]) {
        assert.include([400, 401], (yield* owner(odd)).status)
      }
      // The token is not an access token.
      const whoami = yield* red.scene.ask("GET", "//_matrix/client/v3/account/whoami", { token })
      assert.strictEqual(whoami.status, 401)
      // A user cannot request a token for another user.
      const asBen = yield* ann.ask(
        "POST",
        `//_matrix/client/v3/user/${encodeURIComponent(ben.userId)}/openid/request_token`,
        {}
      )
      assert.strictEqual(asBen.status, 403)
    })
  )

  it.effect("OpenID tokens that have expired, and those of deactivated users, are unknown", () =>
    Effect.gen(function* () {
      const { ownerOf, red } = yield* start
      const [old, left] = [yield* red.register("old"), yield* red.register("left")]
      const [expired, orphaned] = [yield* requestToken(old), yield* requestToken(left)]
      const { access_token: fresh } = yield* requestToken(old)
      yield* red.select(
        `UPDATE openid_tokens SET expires_at = expires_at - 3600 * 1000 WHERE token_hash = sha256('${expired.access_token}')`
      )
      yield* deactivate(left, "left")
      assert.deepStrictEqual(refusalOf(yield* ownerOf(expired.access_token)), unknownToken)
      assert.deepStrictEqual(refusalOf(yield* ownerOf(orphaned.access_token)), unknownToken)
      assert.deepStrictEqual((yield* ownerOf(fresh)).body, { sub: old.userId })
    })
  )
})
