import { assert, layer } from "@effect/vitest"
import { formatUserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { BanStore } from "@greenroom/store/BanStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Deferred, Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { Accounts } from "../../src/account/Accounts.ts"
import { Passwords } from "../../src/account/Passwords.ts"
import * as HomeServer from "../../src/HomeServer.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import { Users } from "../../src/user/Users.ts"
import { errcodeOf, layer as homeServer, person, serverName } from "../TestHomeServer.ts"

const password = Redacted.make("correct horse")
const wrong = Redacted.make("wrong horse")
const userIdOf = (name: string) => formatUserId(name, serverName)

layer(homeServer, { excludeTestServices: true })("Accounts", (it) => {
  it.effect("a new user is logged in, can log in again, and each login can be ended alone", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const first = yield* accounts.register({ localpart: "alice", password, deviceName: "Phone" })
      assert.deepStrictEqual([first.user_id, first.home_server], [userIdOf("alice"), serverName])
      const session = yield* accounts.authenticate(first.access_token)
      assert.deepStrictEqual([session.userId, session.deviceId], [first.user_id, first.device_id])
      const byName = yield* accounts.login({ user: "alice", password })
      const byId = yield* accounts.login({ user: first.user_id, password, deviceName: "Laptop" })
      assert.strictEqual(new Set([first, byName, byId].map((login) => login.access_token)).size, 3)
      const names = (yield* accounts.devices(session)).map((device) => device.display_name)
      assert.sameMembers(names, ["Phone", undefined, "Laptop"])
      yield* accounts.logout(session)
      assert.strictEqual(yield* errcodeOf(accounts.authenticate(first.access_token)), "M_UNKNOWN_TOKEN")
      const other = yield* accounts.authenticate(byId.access_token)
      yield* accounts.logoutAll(other)
      assert.strictEqual(yield* errcodeOf(accounts.authenticate(byId.access_token)), "M_UNKNOWN_TOKEN")
      assert.strictEqual(yield* errcodeOf(accounts.authenticate(byName.access_token)), "M_UNKNOWN_TOKEN")
    })
  )

  it.effect("a token that was never given out is unknown", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      for (const token of ["", "gr_", "nonsense", "\0", "x".repeat(100_000), `gr_${"A".repeat(43)}`]) {
        assert.strictEqual(yield* errcodeOf(accounts.authenticate(token)), "M_UNKNOWN_TOKEN")
      }
    })
  )

  it.effect("a user name is a localpart or a whole user ID of this server", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const whole = yield* accounts.register({ localpart: "@bob:green.test", password })
      assert.strictEqual(whole.user_id, userIdOf("bob"))
      const refused = [
        "",
        "b\u00f6b",
        "bob smith",
        "bob:green.test",
        "@bob",
        "@carol:elsewhere.test",
        "@:green.test",
        "x".repeat(255),
        "bob\n",
        "\u0430lice",
        "\u212a"
      ]
      for (const localpart of refused) {
        assert.strictEqual(
          yield* errcodeOf(accounts.register({ localpart, password })),
          "M_INVALID_USERNAME",
          localpart
        )
      }
      assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "bob", password })), "M_USER_IN_USE")
      assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "Bob", password })), "M_USER_IN_USE")
    })
  )

  it.effect("capitals of a user name count as small letters, at registration and login", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const registered = yield* accounts.register({ localpart: "Grace.HOPPER", password })
      assert.strictEqual(registered.user_id, userIdOf("grace.hopper"))
      for (const user of ["grace.hopper", "GRACE.Hopper", "@Grace.Hopper:green.test"]) {
        assert.strictEqual((yield* accounts.login({ user, password })).user_id, registered.user_id)
      }
      assert.strictEqual(
        yield* errcodeOf(accounts.login({ user: "@grace.hopper:GREEN.test", password })),
        "M_FORBIDDEN"
      )
    })
  )

  it.effect("a registration without a name gets a free one", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const store = yield* AccountStore
      const next = Number(yield* store.allocateLocalpart) + 1
      yield* accounts.register({ localpart: String(next), password })
      const allocated = yield* accounts.register({ password })
      assert.strictEqual(allocated.user_id, userIdOf(String(next + 1)))
      assert.strictEqual((yield* accounts.login({ user: allocated.user_id, password })).user_id, allocated.user_id)
    })
  )

  it.effect("of concurrent registrations of one name one succeeds", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const results = yield* Effect.forEach(
        Array.from({ length: 6 }),
        () => Effect.option(accounts.register({ localpart: "popular", password })),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(results.filter(Option.isSome).length, 1)
    })
  )

  it.effect("a wrong password, an unknown user and a user of another server are answered alike", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      yield* accounts.register({ localpart: "dave", password })
      const errors = yield* Effect.forEach(["dave", "nobody", "@dave:elsewhere.test", "@", ""], (user) =>
        Effect.flip(accounts.login({ user, password: wrong }))
      )
      assert.strictEqual(new Set(errors.map((error) => `${error._tag} ${error.error}`)).size, 1)
      assert.strictEqual(errors[0]!._tag, "M_FORBIDDEN")
    })
  )

  it.effect("a password has 1 to 512 characters", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const tooLong = Redacted.make("x".repeat(513))
      assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "erin", password: tooLong })), "M_BAD_JSON")
      const empty = Redacted.make("")
      assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "erin", password: empty })), "M_WEAK_PASSWORD")
      yield* accounts.register({ localpart: "erin" })
      assert.strictEqual(yield* errcodeOf(accounts.login({ user: "erin", password: empty })), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(accounts.login({ user: "erin", password: tooLong })), "M_FORBIDDEN")
    })
  )

  it.effect("a password with a lone surrogate is refused: all of them have the same UTF-8 encoding", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const half = Redacted.make("secret \ud800")
      assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "half", password: half })), "M_BAD_JSON")
      yield* accounts.register({ localpart: "half", password: Redacted.make("secret \ufffd") })
      assert.strictEqual(yield* errcodeOf(accounts.login({ user: "half", password: half })), "M_FORBIDDEN")
    })
  )

  it.effect("a changed password ends every other session", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const stolen = yield* accounts.register({ localpart: "frank", password })
      yield* accounts.authenticate(stolen.access_token)
      const own = yield* accounts.login({ user: "frank", password })
      const session = yield* accounts.authenticate(own.access_token)
      const renewed = Redacted.make("battery staple")
      const change = { oldPassword: password, newPassword: renewed, address: "192.0.2.1" }
      const guess = accounts.changePassword(session, { ...change, oldPassword: wrong })
      assert.strictEqual(yield* errcodeOf(guess), "M_FORBIDDEN")
      yield* accounts.changePassword(session, change)
      assert.strictEqual(yield* errcodeOf(accounts.authenticate(stolen.access_token)), "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* accounts.authenticate(own.access_token)).userId, own.user_id)
      assert.strictEqual(yield* errcodeOf(accounts.login({ user: "frank", password })), "M_FORBIDDEN")
      yield* accounts.login({ user: "frank", password: renewed })
    })
  )

  it.effect("a login that is under way while its password is replaced is refused", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const sql = yield* SqlClient.SqlClient
      const { user_id } = yield* accounts.register({ localpart: "mallory", password })
      const begun = Deferred.makeUnsafe<void>()
      const login = yield* Effect.forkChild(
        Effect.andThen(Deferred.await(begun), accounts.login({ user: "mallory", password }))
      )
      const waitsForUs = sql`SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`UPDATE users SET password_hash = 'another' WHERE user_id = ${user_id}`
          yield* Deferred.succeed(begun, undefined)
          yield* Effect.repeat(waitsForUs, {
            until: (rows) => rows.length > 0,
            schedule: Schedule.spaced("10 millis")
          })
        })
      )
      assert.strictEqual(yield* errcodeOf(Fiber.join(login)), "M_FORBIDDEN")
    })
  )

  it.effect("a login right after a ban is refused, and leaves no device", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const { user_id } = yield* accounts.register({ localpart: "barred", password })
      const ban = { kind: "user", value: user_id, reason: "spam", bannedBy: "command line" } as const
      yield* BanStore.use((store) => store.add(ban))
      assert.strictEqual(yield* errcodeOf(accounts.openSession(user_id, { deviceId: "late" })), "M_FORBIDDEN")
      const devices = yield* accounts.devicesOf(user_id)
      assert.notInclude(
        devices.map(({ device_id }) => device_id),
        "late"
      )
    })
  )

  it.effect("a password is replaced together with the end of the sessions, or not at all", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const sql = yield* SqlClient.SqlClient
      const { access_token, user_id } = yield* accounts.register({ localpart: "trent", password })
      const session = yield* accounts.authenticate(access_token)
      const renewed = Redacted.make("battery staple")
      yield* sql`
        CREATE FUNCTION keep_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no space' USING ERRCODE = '53100'; END $$`
      yield* sql`
        CREATE TRIGGER keep_sessions BEFORE DELETE ON access_tokens FOR EACH ROW EXECUTE FUNCTION keep_sessions()`
      yield* Effect.exit(accounts.setPassword(user_id, renewed))
      yield* sql`DROP TRIGGER keep_sessions ON access_tokens`
      yield* accounts.authenticate(access_token)
      yield* accounts.login({ user: "trent", password })

      const { login_token } = yield* accounts.createLoginToken(user_id)
      yield* accounts.replacePassword(session, renewed, { logoutOthers: true })
      assert.strictEqual(yield* errcodeOf(accounts.takeLoginToken(login_token)), "M_FORBIDDEN")
    })
  )

  it.effect("no login token outlives the password that granted it, or the session that asked for it", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const { access_token, user_id } = yield* accounts.register({ localpart: "trudy", password })
      const { tokenId } = yield* accounts.authenticate(access_token)
      const { login_token } = yield* accounts.createLoginToken(user_id, { tokenId })
      const underWay = yield* accounts.takeLoginToken(login_token)
      const former = { passwordHash: underWay.passwordHash }
      yield* accounts.setPassword(user_id, Redacted.make("battery staple"))
      assert.strictEqual(yield* errcodeOf(accounts.openSession(underWay.userId, former)), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(accounts.createLoginToken(user_id, former)), "M_UNKNOWN_TOKEN")
      assert.strictEqual(yield* errcodeOf(accounts.createLoginToken(user_id, { tokenId })), "M_UNKNOWN_TOKEN")
    })
  )

  it.effect(
    "a deactivated account is gone from rooms, profiles and presence lists, and its user ID cannot be registered again",
    () =>
      Effect.gen(function* () {
        const accounts = yield* Accounts
        const rooms = yield* Rooms
        const users = yield* Users
        const presences = yield* Presences
        const grace = yield* person("grace")
        const heidi = yield* person("heidi")
        const { room_id } = yield* rooms.create(heidi, { visibility: "public" })
        yield* rooms.join(grace, room_id)
        const knocked = yield* rooms.create(heidi, {})
        yield* rooms.setState(heidi, knocked.room_id, "m.room.join_rules", "", { join_rule: "knock" })
        yield* rooms.setMembership(grace, knocked.room_id, "knock", grace.userId)
        const invited = yield* rooms.create(heidi, { invite: [grace.userId] })
        yield* users.setProfileField(grace, grace.userId, "displayname", "Grace")
        yield* presences.set(grace, grace.userId, "online")
        yield* users.updatePresenceList(heidi, heidi.userId, { invite: [grace.userId] })
        const { access_token } = yield* accounts.login({ user: "grace", password })
        yield* accounts.unregister(yield* accounts.authenticate(access_token))
        assert.strictEqual(yield* errcodeOf(accounts.authenticate(access_token)), "M_UNKNOWN_TOKEN")
        assert.strictEqual(yield* errcodeOf(accounts.login({ user: "grace", password })), "M_FORBIDDEN")
        assert.strictEqual(yield* errcodeOf(accounts.register({ localpart: "grace", password })), "M_USER_IN_USE")
        assert.strictEqual(yield* errcodeOf(users.profile(heidi, grace.userId)), "M_NOT_FOUND")
        assert.strictEqual((yield* presences.many([grace.userId]))[0]!.state, "offline")
        assert.deepStrictEqual(yield* users.presenceList(heidi, heidi.userId), [])
        for (const left of [room_id, knocked.room_id, invited.room_id]) {
          const state = yield* rooms.getState(heidi, left, "m.room.member", grace.userId)
          assert.strictEqual(state.membership, "leave")
        }
      })
  )
})

const options = { serverName, dataDir: "unused: the database is given" }
const server = HomeServer.layerOnDatabase(options)

layer(TestDatabase.layer)("Accounts, after the end of the process", (it) => {
  it.effect("tokens still work, and a deactivation that was cut short is finished", () =>
    Effect.gen(function* () {
      const { ivan, room_id, token } = yield* Effect.gen(function* () {
        const accounts = yield* Accounts
        const rooms = yield* Rooms
        const ivan = yield* person("ivan")
        const judy = yield* accounts.register({ localpart: "judy", password })
        const session = yield* accounts.authenticate(judy.access_token)
        const { room_id } = yield* rooms.create(session, { visibility: "public" })
        yield* rooms.join(ivan, room_id)
        // The state after the commit, when the process ends before the rooms are left.
        yield* (yield* AccountStore).deactivate(ivan.userId)
        return { ivan, room_id, token: judy.access_token }
      }).pipe(Effect.provide(server))
      yield* Effect.gen(function* () {
        const accounts = yield* Accounts
        const rooms = yield* Rooms
        const judy = yield* accounts.authenticate(token)
        const membership = Effect.map(
          rooms.getState(judy, room_id, "m.room.member", ivan.userId),
          (state) => state.membership
        )
        while ((yield* membership) !== "leave") yield* TestClock.adjust("1 second")
      }).pipe(Effect.provide(server))
    })
  )

  it.effect("a login token is valid for two minutes", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const { user_id } = yield* accounts.register({ localpart: "olivia", password })
      const [inTime, late] = [yield* accounts.createLoginToken(user_id), yield* accounts.createLoginToken(user_id)]
      assert.deepStrictEqual([inTime.expires_in_ms, late.expires_in_ms], [120_000, 120_000])
      yield* TestClock.adjust("119 seconds")
      assert.strictEqual((yield* accounts.takeLoginToken(inTime.login_token)).userId, user_id)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* errcodeOf(accounts.takeLoginToken(late.login_token)), "M_FORBIDDEN")
    }).pipe(Effect.provide(server))
  )

  it.effect("the last use of a token is stored", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const { access_token } = yield* accounts.register({ localpart: "laura", password })
      const session = yield* accounts.authenticate(access_token)
      const lastSeen = Effect.map(accounts.devices(session), ([device]) => device!.last_seen_ts)
      const before = yield* lastSeen
      yield* TestClock.adjust("31 seconds")
      yield* accounts.authenticate(access_token)
      while ((yield* lastSeen) === before) yield* TestClock.adjust("10 seconds")
    }).pipe(Effect.provide(server))
  )

  it.effect("a password that was hashed at another cost is hashed anew at the next login", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const store = yield* AccountStore
      const cheap = Passwords.layerWith({ memory: 64, passes: 1, parallelism: 1 })
      const old = yield* Effect.provide(
        Effect.flatMap(Passwords, (passwords) => passwords.hash(password)),
        Layer.fresh(cheap)
      )
      yield* store.create(userIdOf("mallory"), { passwordHash: Redacted.make(old) })
      yield* accounts.login({ user: "mallory", password })
      const renewed = (yield* Effect.fromOption(yield* store.find(userIdOf("mallory")))).passwordHash
      assert.match(Redacted.value(renewed!), /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
      yield* accounts.login({ user: "mallory", password })
    }).pipe(Effect.provide(server))
  )
})
