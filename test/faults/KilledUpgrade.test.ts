/**
 * A room upgrade that failed, or that a kill of the server interrupted: once the new room exists, the upgrade is finished when it is
 * requested again, also by another login, and without another request. Before that it has changed nothing.
 */
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const client = "/_matrix/client/v3"
const password = "correct horse"

const eventsOf = (type: string) => ({ table: "events", condition: `NEW.body::jsonb ->> 'type' = '${type}'` })

/** A server on which alice upgrades a room, and which can be killed during the upgrade. */
const setUp = Effect.gen(function* () {
  const options = { dataDir: yield* GatewayProcess.temporaryDirectory, databaseUrl: yield* TestDatabase.url }
  const database = databaseAccess(options.databaseUrl)

  let gateway = yield* GatewayProcess.start(options)
  const registered = yield* curl(gateway.url, "POST", `${client}/register`, {
    data: { username: "alice", password, auth: { type: "m.login.dummy" } }
  })
  let token = registered.body.access_token
  const asking = (token: () => string) => (method: string, path: string, data?: object) =>
    Effect.suspend(() => curl(gateway.url, method, `${client}${path}`, { token: token(), ...(data && { data }) }))
  const asAlice = asking(() => token)
  const old = (yield* asAlice("POST", "/createRoom", { room_version: "11", preset: "public_chat" })).body.room_id
  const room = `/rooms/${encodeURIComponent(old)}`
  yield* asAlice("PUT", `/user/@alice:green.test${room}/tags/m.favourite`, {})
  const upgradeTo = (new_version: string, by = asAlice) => by("POST", `${room}/upgrade`, { new_version })
  const upgrade = upgradeTo("12")
  /** Another member, with the power to upgrade the room. */
  const moderator = Effect.gen(function* () {
    const { body } = yield* curl(gateway.url, "POST", `${client}/register`, {
      data: { username: "bob", password, auth: { type: "m.login.dummy" } }
    })
    const asBob = asking(() => body.access_token)
    yield* asBob("POST", `${room}/join`, {})
    yield* asAlice("PUT", `${room}/state/m.room.power_levels`, {
      users: { "@alice:green.test": 100, "@bob:green.test": 100 }
    })
    return asBob
  })

  const restart = Effect.fnUntraced(function* (meanwhile: Effect.Effect<unknown, unknown>) {
    yield* gateway.kill
    yield* meanwhile
    gateway = yield* GatewayProcess.start(options)
  })
  /** Kills the server when the upgrade sends an event of the type, and starts another one after `meanwhile`. */
  const interruptAt = Effect.fnUntraced(function* (
    type: string,
    meanwhile: Effect.Effect<unknown, unknown> = Effect.void
  ) {
    const events = eventsOf(type)
    yield* database.refuse(events)
    const upgrading = yield* Effect.forkChild(Effect.exit(upgrade))
    yield* database.untilRefused()
    yield* restart(Effect.all([Fiber.join(upgrading), database.accept(events), meanwhile]))
  })
  /** The upgrade fails when it sends an event of the type, and its client gets that answer. */
  const failAt = Effect.fnUntraced(function* (type: string) {
    yield* database.refuse(eventsOf(type))
    const { body, status } = yield* upgrade
    assert.strictEqual(status, 503, JSON.stringify(body))
    yield* database.accept(eventsOf(type))
  })
  const logInAgain = Effect.gen(function* () {
    const login = yield* curl(gateway.url, "POST", `${client}/login`, {
      data: { type: "m.login.password", identifier: { type: "m.id.user", user: "alice" }, password }
    })
    token = login.body.access_token
  })

  /** The server does not retry an interrupted upgrade while its process may still be running. */
  const makeDue = database.select("UPDATE unfinished_upgrades SET retry_at = 0")
  const unfinished = database.select("SELECT 1 FROM unfinished_upgrades")
  const tombstones = database.select("SELECT 1 FROM events WHERE body::jsonb ->> 'type' = 'm.room.tombstone'")
  const joinedRooms = Effect.map(asAlice("GET", "/joined_rooms"), ({ body }) => body.joined_rooms)
  const replacementOf = Effect.map(
    asAlice("GET", `${room}/state/m.room.tombstone`),
    ({ body }) => body.replacement_room as string | undefined
  )
  /** Alice is in the closed old room and in its replacement, which has her tags. */
  const assertUpgraded = Effect.gen(function* () {
    const replacement = yield* replacementOf
    assert.isDefined(replacement)
    assert.sameMembers(yield* joinedRooms, [old, replacement])
    const levels = yield* asAlice("GET", `${room}/state/m.room.power_levels`)
    assert.strictEqual(levels.body.events_default, 50)
    const tags = yield* asAlice("GET", `/user/@alice:green.test/rooms/${encodeURIComponent(replacement!)}/tags`)
    assert.deepStrictEqual(tags.body, { tags: { "m.favourite": {} } })
    assert.lengthOf(yield* tombstones, 1)
    assert.lengthOf(yield* unfinished, 0)
    return replacement!
  })
  return {
    asAlice,
    assertUpgraded,
    failAt,
    interruptAt,
    joinedRooms,
    logInAgain,
    makeDue,
    moderator,
    old,
    replacementOf,
    restart,
    room,
    tombstones,
    unfinished,
    upgrade,
    upgradeTo
  }
})

const untilNone = (rows: Effect.Effect<ReadonlyArray<object>, unknown>) =>
  Effect.repeat(rows, { until: (found) => found.length === 0, schedule: Schedule.spaced("50 millis") })

describe("KilledUpgrade", () => {
  it.live(
    "an interrupted upgrade creates one new room and closes the old one when it is requested again",
    () =>
      Effect.gen(function* () {
        const { assertUpgraded, interruptAt, logInAgain, upgrade } = yield* setUp
        // The new room exists, and the old one does not lead to it yet.
        yield* interruptAt("m.room.tombstone")
        yield* logInAgain
        // The tombstone exists, and the old room is still open.
        yield* interruptAt("m.room.power_levels")
        const { body, status } = yield* upgrade
        assert.strictEqual(status, 200, JSON.stringify(body))
        assert.strictEqual(yield* assertUpgraded, body.replacement_room)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an interrupted upgrade creates one new room and closes the old one without another request",
    () =>
      Effect.gen(function* () {
        const { assertUpgraded, interruptAt, makeDue, unfinished } = yield* setUp
        yield* interruptAt("m.room.tombstone", makeDue)
        yield* untilNone(unfinished)
        yield* assertUpgraded
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an interrupted upgrade is given up when the user may no longer upgrade the room",
    () =>
      Effect.gen(function* () {
        const { asAlice, interruptAt, joinedRooms, makeDue, restart, room, tombstones, unfinished } = yield* setUp
        yield* interruptAt("m.room.tombstone")
        assert.lengthOf(yield* joinedRooms, 2)
        assert.strictEqual((yield* asAlice("POST", `${room}/leave`, {})).status, 200)
        yield* restart(makeDue)
        yield* untilNone(unfinished)
        assert.lengthOf(yield* tombstones, 0)
        assert.deepStrictEqual(yield* joinedRooms, [])
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an upgrade that failed before the new room existed does not happen later",
    () =>
      Effect.gen(function* () {
        const { failAt, joinedRooms, makeDue, old, restart, tombstones, unfinished } = yield* setUp
        yield* failAt("m.room.create")
        assert.lengthOf(yield* unfinished, 1)
        yield* restart(makeDue)
        yield* untilNone(unfinished)
        assert.deepStrictEqual(yield* joinedRooms, [old])
        assert.lengthOf(yield* tombstones, 0)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an upgrade that failed is made once when it is requested again",
    () =>
      Effect.gen(function* () {
        const { assertUpgraded, failAt, upgrade } = yield* setUp
        for (const type of ["m.room.create", "m.room.tombstone", "m.room.power_levels"]) yield* failAt(type)
        const { body } = yield* upgrade
        assert.strictEqual(yield* assertUpgraded, body.replacement_room)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an upgrade that failed leaves no second room behind when the user requests another version",
    () =>
      Effect.gen(function* () {
        const { assertUpgraded, failAt, upgradeTo } = yield* setUp
        yield* failAt("m.room.tombstone")
        const { body } = yield* upgradeTo("10")
        assert.strictEqual(yield* assertUpgraded, body.replacement_room)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an upgrade that failed does not replace the room again when another user has upgraded it",
    () =>
      Effect.gen(function* () {
        const { failAt, joinedRooms, makeDue, moderator, old, replacementOf, restart, unfinished, upgradeTo } =
          yield* setUp
        const asBob = yield* moderator
        yield* failAt("m.room.tombstone")
        const { body } = yield* upgradeTo("12", asBob)
        yield* restart(makeDue)
        yield* untilNone(unfinished)
        assert.strictEqual(yield* replacementOf, body.replacement_room)
        assert.deepStrictEqual(yield* joinedRooms, [old])
      }).pipe(Effect.scoped),
    120_000
  )
})
