import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Deferred, Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { AccountStore } from "../src/AccountStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const user = (localpart: string) => `@${localpart}:example.org` as UserId
const secret = (text: string) => Redacted.make(text)

const logIn = Effect.fnUntraced(function* (userId: UserId, token: string) {
  const store = yield* AccountStore
  return Option.getOrThrow(yield* store.createToken({ userId, token: secret(token), deviceId: `device of ${token}` }))
    .tokenId
})

layer(AccountStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("AccountStore", (it) => {
  it.effect("a user ID is given once, also after its account was deactivated", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const once = user("once")
      yield* store.create(once, { passwordHash: secret("$argon2id$...") })
      const account = Option.getOrThrow(yield* store.find(once))
      assert.strictEqual(account.passwordHash && Redacted.value(account.passwordHash), "$argon2id$...")
      assert.isFalse(account.admin)
      const taken = yield* Effect.flip(store.create(once))
      assert.strictEqual(taken._tag, "M_USER_IN_USE")
      yield* store.deactivate(once)
      assert.strictEqual((yield* Effect.flip(store.create(once)))._tag, "M_USER_IN_USE")
      const deactivated = Option.getOrThrow(yield* store.find(once))
      assert.isUndefined(deactivated.passwordHash)
      assert.isDefined(deactivated.deactivatedAt)
    })
  )

  it.effect("two registrations of one user ID at once: one wins", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const exits = yield* Effect.all(
        Array.from({ length: 8 }, () => Effect.exit(store.create(user("race")))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(exits.filter((exit) => exit._tag === "Success").length, 1)
    })
  )

  it.effect("localparts that the server allocates differ", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const localparts = yield* Effect.all(
        Array.from({ length: 50 }, () => store.allocateLocalpart),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(localparts).size, 50)
    })
  )

  it.effect("a token stands for its user until it is revoked, and is not in the database", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const sql = yield* SqlClient.SqlClient
      const alice = user("token")
      yield* store.create(alice, { admin: true })
      const tokenId = yield* logIn(alice, "a secret that nobody may read")
      const found = Option.getOrThrow(yield* store.findToken(secret("a secret that nobody may read")))
      assert.deepStrictEqual(found, {
        tokenId,
        userId: alice,
        deviceId: "device of a secret that nobody may read",
        admin: true,
        guest: false,
        expiresAt: undefined,
        since: found.since
      })
      const rows = yield* sql<{ text: string }>`SELECT access_tokens::text AS text FROM access_tokens`
      assert.isEmpty(rows.filter(({ text }) => text.includes(Buffer.from("nobody may read").toString("hex"))))
      assert.isTrue(Option.isNone(yield* store.findToken(secret("another"))))
      assert.isFalse(yield* store.revoke(user("somebody-else"), tokenId))
      assert.isTrue(yield* store.revoke(alice, tokenId))
      assert.isTrue(Option.isNone(yield* store.findToken(secret("a secret that nobody may read"))))
      assert.isFalse(yield* store.revoke(alice, tokenId))
    })
  )

  it.effect("logout of all but one leaves that one", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const bob = user("several")
      yield* store.create(bob)
      const [first, second, third] = [yield* logIn(bob, "s1"), yield* logIn(bob, "s2"), yield* logIn(bob, "s3")]
      assert.sameMembers([...(yield* store.revokeAll(bob, { except: second }))], [first, third])
      assert.isTrue(Option.isSome(yield* store.findToken(secret("s2"))))
      assert.deepStrictEqual(yield* store.revokeAll(bob), [second])
    })
  )

  it.effect("a deactivated account has no tokens and gets none", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const carol = user("leaving")
      yield* store.create(carol)
      const tokenId = yield* logIn(carol, "c1")
      assert.deepStrictEqual(yield* store.deactivate(carol), [tokenId])
      assert.isTrue(Option.isNone(yield* store.findToken(secret("c1"))))
      const next = yield* store.createToken({ userId: carol, token: secret("c2"), deviceId: "d" })
      assert.isTrue(Option.isNone(next))
      const unknown = yield* store.createToken({ userId: user("nobody"), token: secret("c3"), deviceId: "d" })
      assert.isTrue(Option.isNone(unknown))
    })
  )

  it.effect("a token that expires works until then", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const dan = user("expiring")
      yield* store.create(dan)
      yield* TestClock.setTime(1_000_000)
      const token = { userId: dan, token: secret("e1"), deviceId: "d", expiresAt: 1_060_000 }
      const { tokenId } = Option.getOrThrow(yield* store.createToken(token))
      assert.isTrue(Option.isSome(yield* store.findToken(secret("e1"))))
      assert.deepStrictEqual(yield* store.removeExpired, [])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(Option.getOrThrow(yield* store.findToken(secret("e1"))).expiresAt, 1_060_000)
      assert.deepStrictEqual(yield* store.removeExpired, [tokenId])
      assert.isTrue(Option.isNone(yield* store.findToken(secret("e1"))))
    })
  )

  it.effect("a device that logs in again keeps its row and its name, and its former token ends", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const fay = user("again")
      yield* store.create(fay)
      const login = (token: string) =>
        Effect.map(
          store.createToken({ userId: fay, token: secret(token), deviceId: "PHONE", deviceName: token }),
          Option.getOrThrow
        )
      const first = yield* login("f1")
      assert.isFalse(first.replaced)
      assert.deepStrictEqual(yield* login("f2"), { tokenId: first.tokenId, replaced: true })
      assert.isTrue(Option.isNone(yield* store.findToken(secret("f1"))))
      assert.strictEqual((yield* store.devices(fay))[0]?.name, "f1")
    })
  )

  it.effect("a refresh can be repeated until the new tokens are used, which ends the old ones", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const gus = user("refreshing")
      yield* store.create(gus)
      yield* store.createToken({ userId: gus, token: secret("g1"), refreshToken: secret("r1"), deviceId: "D" })
      const next = (n: number) => ({
        token: secret(`g${n}`),
        refreshToken: secret(`r${n}`),
        refreshFamily: secret("family"),
        expiresAt: undefined
      })
      const isKnown = (token: string) => Effect.map(store.findToken(secret(token)), Option.isSome)
      assert.isTrue(Option.isSome(yield* store.refresh(secret("r1"), next(2))))
      assert.isTrue(yield* isKnown("g1"))
      assert.isTrue(Option.isSome(yield* store.refresh(secret("r1"), next(3))))
      assert.isFalse(yield* isKnown("g2"))
      assert.isTrue(yield* isKnown("g3"))
      assert.isFalse(yield* isKnown("g1"))
      assert.isTrue(Option.isNone(yield* store.refresh(secret("r1"), next(4))))
      // The client may also refresh at once, without using the access token in between.
      yield* store.refresh(secret("r3"), next(5))
      yield* store.refresh(secret("r5"), next(6))
      assert.isFalse(yield* isKnown("g3"))
      assert.isTrue(yield* isKnown("g6"))
    })
  )

  it.effect(
    "a device that logs in again ends the tokens of a refresh before that, also those that were not used yet",
    () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const hal = user("relogging")
        yield* store.create(hal)
        const device = { userId: hal, deviceId: "D" }
        const next = (token: string) => ({
          token: secret(token),
          refreshToken: secret(`refresh ${token}`),
          refreshFamily: secret(`family ${token}`),
          expiresAt: undefined
        })
        yield* store.createToken({ ...device, ...next("h1") })
        assert.isTrue(Option.isSome(yield* store.refresh(secret("refresh h1"), next("h2"))))
        yield* store.createToken({ ...device, ...next("h3") })
        assert.isTrue(Option.isNone(yield* store.findToken(secret("h2"))))
        assert.isTrue(Option.isNone(yield* store.refresh(secret("refresh h2"), next("h4"))))
        assert.isTrue(Option.isSome(yield* store.findToken(secret("h3"))))
      })
  )

  it.effect("a login is ended by each of its secrets, also by those that were not used yet", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const jo = user("ending")
      yield* store.create(jo)
      for (const ending of ["j1", "refresh j1", "j2", "refresh j2"]) {
        const tokens = (token: string) => ({
          token: secret(token),
          refreshToken: secret(`refresh ${token}`),
          refreshFamily: secret("family of jo"),
          expiresAt: undefined
        })
        const login = Option.getOrThrow(yield* store.createToken({ userId: jo, deviceId: "D", ...tokens("j1") }))
        yield* store.refresh(secret("refresh j1"), tokens("j2"))
        assert.deepStrictEqual(yield* store.revokeSecret(secret(ending)), [login.tokenId], ending)
      }
      assert.deepStrictEqual(yield* store.devices(jo), [])
    })
  )

  it.effect("a login with a refresh token outlasts its access token", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const ida = user("outlasting")
      yield* store.create(ida)
      const refreshToken = secret("refresh i1")
      yield* store.createToken({ userId: ida, token: secret("i1"), deviceId: "D", expiresAt: 1, refreshToken })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* store.removeExpired, [])
      const next = { token: secret("i2"), refreshToken: secret("i2 refresh"), refreshFamily: secret("i") }
      assert.isTrue(Option.isSome(yield* store.refresh(refreshToken, { ...next, expiresAt: undefined })))
    })
  )

  it.effect("a login token is valid for one login and a limited time", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const hal = user("login-token")
      yield* store.create(hal)
      yield* TestClock.setTime(1_000)
      yield* store.createLoginToken({ userId: hal, token: secret("l1"), expiresAt: 2_000 }, 10)
      yield* store.createLoginToken({ userId: hal, token: secret("l2"), expiresAt: 2_000 }, 10)
      const taken = yield* store.takeLoginToken(secret("l1"))
      assert.deepStrictEqual(
        Option.map(taken, ({ userId }) => userId),
        Option.some(hal)
      )
      assert.isTrue(Option.isNone(yield* store.takeLoginToken(secret("l1"))))
      yield* TestClock.setTime(2_000)
      assert.isTrue(Option.isNone(yield* store.takeLoginToken(secret("l2"))))
    })
  )

  it.effect("of more login tokens than a user may have the oldest ends", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const kim = user("login-tokens")
      yield* store.create(kim)
      yield* TestClock.setTime(1_000)
      for (const number of [1, 2, 3]) {
        yield* store.createLoginToken({ userId: kim, token: secret(`k${number}`), expiresAt: 2_000 + number }, 2)
      }
      const taken = yield* Effect.forEach(["k1", "k2", "k3"], (token) => store.takeLoginToken(secret(token)))
      assert.deepStrictEqual(taken.map(Option.isSome), [false, true, true])
    })
  )

  it.effect("the end of a session stays in the log for a day", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const sql = yield* SqlClient.SqlClient
      const lou = user("logged-out")
      yield* store.create(lou)
      const tokenId = yield* logIn(lou, "lou")
      yield* store.revoke(lou, tokenId)
      const ends = sql<{ ended_at: bigint }>`SELECT ended_at FROM session_revocations WHERE token_id = ${tokenId}`
      const [end] = yield* ends
      const day = 86_400_000
      yield* TestClock.setTime(Number(end!.ended_at) + day - 1)
      yield* store.removeExpired
      assert.lengthOf(yield* ends, 1)
      yield* TestClock.adjust(1)
      yield* store.removeExpired
      assert.lengthOf(yield* ends, 0)
    })
  )

  it.effect("devices are listed by when they were used, with any name", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const eve = user("devices")
      yield* store.create(eve)
      const deviceName = "phone \0 \ud800 ☎"
      const login = (token: string, deviceId: string, deviceName?: string) =>
        Effect.map(
          store.createToken({ userId: eve, token: secret(token), deviceId, deviceName }),
          (created) => Option.getOrThrow(created).tokenId
        )
      const phone = yield* login("p", "PHONE", deviceName)
      const desk = yield* login("d", "DESK")
      const address = undefined
      yield* TestClock.setTime(6_000_000_000)
      yield* store.touch(
        new Map([
          [phone, { at: 5_000_000_000, address: "192.0.2.1" }],
          [desk, { at: 4, address }]
        ])
      )
      yield* store.touch(new Map([[phone, { at: 3, address }]]))
      yield* store.touch(new Map())
      const devices = yield* store.devices(eve)
      assert.deepStrictEqual(
        devices.map(({ deviceId, name }) => [deviceId, name]),
        [
          ["PHONE", deviceName],
          ["DESK", undefined]
        ]
      )
      assert.strictEqual(devices[0]?.lastUsedAt, 5_000_000_000)
      assert.strictEqual(devices[0]?.lastSeenAddress, "192.0.2.1")
    })
  )

  it.effect("accounts are listed in pages", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const names = ["page-A", "page-b", "page-c"].map(user)
      yield* Effect.forEach(names, (name) => store.create(name), { discard: true })
      const page = yield* store.list({ after: user("page-A"), limit: 1 })
      assert.deepStrictEqual(
        page.map(({ userId }) => userId),
        [user("page-b")]
      )
    })
  )
})

layer(AccountStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "AccountStore, with several connections",
  (it) => {
    it.effect("a login token that is granted while the password is replaced is not made", () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const sql = yield* SqlClient.SqlClient
        const ivy = user("login-token-race")
        yield* store.create(ivy, { passwordHash: secret("former") })
        const tokenId = yield* logIn(ivy, "ivy")
        const grants = [{ tokenId }, { passwordHash: secret("former") }].map((grantedBy, index) =>
          store.createLoginToken({ userId: ivy, token: secret(`r${index}`), expiresAt: 2_000, grantedBy }, 10)
        )
        const [replaced, mayCommit] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const replacing = store
          .replacePassword(ivy, secret("new"))
          .pipe(Effect.andThen(Deferred.succeed(replaced, undefined)), Effect.andThen(Deferred.await(mayCommit)))
        const change = yield* Effect.forkChild(sql.withTransaction(replacing))
        yield* Deferred.await(replaced)
        const fibers = yield* Effect.forEach(grants, (grant) => Effect.forkChild(sql.withTransaction(grant)))
        const waiting = sql<{ count: number }>`
        SELECT count(*)::int AS count FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`
        yield* Effect.repeat(sql.withTransaction(waiting), {
          until: ([row]) => row!.count === grants.length,
          schedule: Schedule.spaced("10 millis")
        })
        yield* Deferred.succeed(mayCommit, undefined)
        yield* Fiber.join(change)
        assert.deepStrictEqual(yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber)), [false, false])
      })
    )
  }
)
