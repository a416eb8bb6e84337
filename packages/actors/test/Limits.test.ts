/**
 * How much one user or one room may have, and one request may read.
 */
import { assert, layer } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { AppServiceSessions } from "@greenroom/actors/app-service/AppServiceSessions"
import { AppServices } from "@greenroom/actors/app-service/AppServices"
import { ServerServer } from "@greenroom/actors/federation/ServerServer"
import * as HomeServer from "@greenroom/actors/HomeServer"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import type { AppServiceRegistration } from "@greenroom/protocol/app-service/AppServiceRegistration"
import type { EventId, RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import { CurrentAllowance, freeRead, LargeReads, makeLargeReads, withAllowance } from "@greenroom/store/LargeReads"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Latch, Layer, Option } from "effect"
import { errcodeOf, person, serverName } from "./TestHomeServer.ts"

const limits = { rooms: 3, invitations: 2, devices: 2, aliases: 2, stateBytes: 20_000 }

const network: AppServiceRegistration = {
  id: "network",
  url: null,
  as_token: "as-token",
  hs_token: "unused",
  sender_localpart: "networkbot",
  namespaces: { aliases: [{ exclusive: true, regex: "#_net_.*" }] }
}

const server = HomeServer.layerOnDatabase({
  serverName,
  dataDir: "unused: the database is given",
  limits,
  appServices: [network]
}).pipe(Layer.provide(TestDatabase.layer))

layer(server, { excludeTestServices: true })("limits", (it) => {
  it.effect("a user is in so many rooms, and may enter another after leaving one", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [yield* person("alice"), yield* person("bob")]
      const open = (yield* rooms.create(bob, { visibility: "public" })).room_id
      const own: Array<RoomId> = []
      for (let count = 0; count < 3; count++) own.push((yield* rooms.create(alice, {})).room_id)
      assert.strictEqual(yield* errcodeOf(rooms.create(alice, {})), "M_USER_LIMIT_EXCEEDED")
      assert.strictEqual(yield* errcodeOf(rooms.join(alice, open)), "M_USER_LIMIT_EXCEEDED")
      yield* rooms.join(alice, own[0]!)
      yield* rooms.leave(alice, own[0]!)
      yield* rooms.join(alice, open)
    })
  )

  it.effect("knocks count as rooms, and a join that is set as state does too", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [ida, jon] = [yield* person("ida"), yield* person("jon")]
      const open = (yield* rooms.create(jon, { visibility: "public" })).room_id
      const closed = (yield* rooms.create(jon, {})).room_id
      yield* rooms.setState(jon, closed, "m.room.join_rules", "", { join_rule: "knock" })
      const knock = rooms.setMembership(ida, closed, "knock", ida.userId)
      for (let count = 0; count < 2; count++) yield* rooms.create(ida, {})
      yield* knock
      const join = rooms.setState(ida, open, "m.room.member", ida.userId, { membership: "join" })
      assert.strictEqual(yield* errcodeOf(join), "M_USER_LIMIT_EXCEEDED")
      yield* rooms.leave(ida, closed)
      yield* join
      assert.strictEqual(yield* errcodeOf(knock), "M_USER_LIMIT_EXCEEDED")
    })
  )

  it.effect("rooms that a user enters at once count together", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const gina = yield* person("gina")
      const made = yield* Effect.all(
        Array.from({ length: 6 }, () => Effect.option(rooms.create(gina, {}))),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(made.filter(Option.isSome), 3)
    })
  )

  it.effect("a user has a limited number of invitations without an answer", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [carol, dan] = [yield* person("carol"), yield* person("dan")]
      const invite = Effect.flatMap(rooms.create(carol, {}), ({ room_id }) =>
        Effect.as(rooms.setMembership(carol, room_id, "invite", dan.userId), room_id)
      )
      const first = yield* invite
      yield* invite
      assert.strictEqual(yield* errcodeOf(invite), "M_FORBIDDEN")
      yield* rooms.leave(carol, first)
      assert.strictEqual(yield* errcodeOf(rooms.create(carol, { invite: [dan.userId] })), "M_FORBIDDEN")
      yield* rooms.leave(dan, first)
      yield* rooms.create(carol, { invite: [dan.userId] })
    })
  )

  it.effect("a login beyond the limit of devices ends the one that was used longest ago", () =>
    Effect.gen(function* () {
      const accounts = yield* Accounts
      const erin = yield* person("erin")
      const logIn = (deviceId: string) => accounts.openSession(erin.userId, { deviceId })
      const second = yield* logIn("second")
      const third = yield* logIn("third")
      yield* logIn("third")
      const devices = yield* accounts.devicesOf(erin.userId)
      assert.deepStrictEqual(devices.map(({ device_id }) => device_id).sort(), ["second", "third"])
      yield* accounts.authenticate(second.access_token)
      assert.strictEqual(yield* errcodeOf(accounts.authenticate(third.access_token)), "M_UNKNOWN_TOKEN")
    })
  )

  it.effect("a user makes so many aliases", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const frank = yield* person("frank")
      const { room_id } = yield* rooms.create(frank, { room_alias_name: "one" })
      const alias = (name: string) => rooms.setAlias(frank, `#${name}:${serverName}` as RoomAlias, room_id)
      yield* alias("two")
      yield* alias("two")
      assert.strictEqual(yield* errcodeOf(alias("three")), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(rooms.create(frank, { room_alias_name: "three" })), "M_FORBIDDEN")
      yield* rooms.removeAlias(frank, `#one:${serverName}` as RoomAlias)
      yield* alias("three")
    })
  )

  it.effect("an application service makes an alias for each room of its network, and its user is in all of them", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const service = (yield* AppServices).withId(network.id)!
      const bot = yield* AppServiceSessions.use((sessions) => sessions.sessionOf(service, {}))
      const made: Array<RoomId> = []
      for (let count = 0; count < 4; count++) {
        made.push((yield* rooms.create(bot, { room_alias_name: `_net_${count}` })).room_id)
        yield* rooms.setAlias(bot, `#_net_again_${count}:${serverName}` as RoomAlias, made[0]!)
      }
      assert.lengthOf(new Set(made), 4)
    })
  )

  it.effect("the state of a room is limited in size: at the limit keys can be replaced, and users join and leave", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [grace, heidi] = [yield* person("grace"), yield* person("heidi")]
      const { room_id } = yield* rooms.create(grace, { visibility: "public" })
      const set = (key: string, bytes: number) =>
        rooms.setState(grace, room_id, "org.example.note", key, { note: "x".repeat(bytes) })
      yield* set("a", 7_000)
      yield* set("b", 7_000)
      assert.strictEqual(yield* errcodeOf(set("c", 7_000)), "M_TOO_LARGE")
      // An event includes the content that it replaced: `prev_content` counts too.
      yield* set("b", 10)
      yield* set("b", 11)
      yield* set("c", 3_000)
      assert.strictEqual(yield* errcodeOf(set("d", 9_000)), "M_TOO_LARGE")
      yield* rooms.join(heidi, room_id)
      const wordy = { membership: "join", words: "x".repeat(9_000) }
      assert.strictEqual(
        yield* errcodeOf(rooms.setState(heidi, room_id, "m.room.member", heidi.userId, wordy)),
        "M_TOO_LARGE"
      )
      yield* rooms.send(heidi, room_id, "m.room.message", { msgtype: "m.text", body: "x".repeat(20_000) })
      yield* rooms.leave(heidi, room_id)
    })
  )

  it.effect("history for other servers is read once and counted, also where it is read an event at a time", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const servers = yield* ServerServer
      const ivan = yield* person("ivan")
      const { room_id } = yield* rooms.create(ivan, { room_version: "11" })
      const sent: Array<EventId> = []
      const body = "x".repeat(60_000)
      for (let count = 0; count < 24; count++) {
        sent.push((yield* rooms.send(ivan, room_id, "m.room.message", { msgtype: "m.text", body })).event_id)
      }
      const counted = Effect.fnUntraced(function* <A extends ReadonlyArray<unknown>, E>(read: Effect.Effect<A, E>) {
        let bytes = 0
        let isExpected = false
        const counted = {
          take: (more: number) =>
            Effect.sync(() => {
              bytes += more
            }),
          takeNow: (more: number) => {
            bytes += more
            return true
          },
          expect: () =>
            Effect.sync(() => {
              isExpected = true
            }),
          give: () => Effect.void
        }
        const { length } = yield* Effect.provideService(read, CurrentAllowance, counted)
        return { length, isExpected, bytes }
      })
      const latest = sent.slice(-1)
      const page = yield* counted(servers.backfill(serverName, room_id, latest, 24))
      assert.strictEqual(page.length, 24)
      assert.isAtLeast(page.bytes, 22 * body.length)
      assert.isBelow(page.bytes, 36 * body.length)
      const missing = Effect.succeed({ earliest: sent.slice(0, 1), latest, limit: 50, minDepth: 0 })
      const between = yield* counted(servers.getMissingEvents(serverName, room_id, missing))
      assert.strictEqual(between.length, 22)
      assert.isTrue(between.isExpected)
      const few = Effect.succeed({ earliest: sent.slice(12, 13), latest, limit: 50, minDepth: 0 })
      assert.isFalse((yield* counted(servers.getMissingEvents(serverName, room_id, few))).isExpected)
    })
  )

  it.effect("keys are claimed when the request may have their bytes, and not before", () =>
    Effect.gen(function* () {
      const keys = yield* DeviceKeys
      const judy = yield* person("judy")
      const algorithms = Array.from({ length: 20 }, (_, index) => `algorithm${index}`)
      const text = "x".repeat(8_000)
      const oneTime = Object.fromEntries(algorithms.map((algorithm) => [`${algorithm}:key`, text]))
      yield* keys.upload(judy, { one_time_keys: oneTime })
      const waits = yield* Latch.make(false)
      const permits = makeLargeReads({ tiers: [{ above: freeRead, requests: 1 }], most: 1024 * 1024 })
      const others = permits("others")
      yield* others.take(freeRead + 1)
      const noting = (owner: string) => {
        const allowance = permits(owner)
        const take = allowance.take.bind(allowance)
        return Object.assign(allowance, { take: (bytes: number) => Effect.andThen(waits.open, take(bytes)) })
      }
      const claims = algorithms.map((algorithm) => ({ userId: judy.userId, deviceId: judy.deviceId, algorithm }))
      const claiming = yield* keys
        .claim(claims)
        .pipe(withAllowance, Effect.provideService(LargeReads, noting), Effect.forkChild)
      yield* Effect.raceFirst(waits.await, Fiber.await(claiming))
      const { oneTime: left } = yield* keys.counts(judy)
      assert.lengthOf(Object.keys(left), 20)
      yield* others.release()
      const claimed = JSON.parse(yield* Fiber.join(claiming))
      assert.lengthOf(Object.keys(claimed[judy.userId][judy.deviceId]), 1)
      assert.deepStrictEqual((yield* keys.counts(judy)).oneTime, {})
    })
  )
})
