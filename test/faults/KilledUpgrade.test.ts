/**
 * A room upgrade that a kill of the server interrupted is finished when it is requested again, also by another login, and without another
 * request.
 */
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Schedule } from "effect"
import { curl } from "../support/Curl.ts"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const client = "/_matrix/client/v3"
const password = "correct horse"

/** A server on which alice upgrades a room, and which can be killed during the upgrade. */
const setUp = Effect.gen(function* () {
  const options = { dataDir: yield* GatewayProcess.temporaryDirectory, databaseUrl: yield* TestDatabase.url }
  const database = databaseAccess(options.databaseUrl)

  let gateway = yield* GatewayProcess.start(options)
  const registered = yield* curl(gateway.url, "POST", `${client}/register`, {
    data: { username: "alice", password, auth: { type: "m.login.dummy" } }
  })
  let token = registered.body.access_token
  const asAlice = (method: string, path: string, data?: object) =>
    Effect.suspend(() => curl(gateway.url, method, `${client}${path}`, { token, ...(data && { data }) }))
  const old = (yield* asAlice("POST", "/createRoom", { room_version: "11" })).body.room_id
  const room = `/rooms/${encodeURIComponent(old)}`
  yield* asAlice("PUT", `/user/@alice:green.test${room}/tags/m.favourite`, {})
  const upgrade = asAlice("POST", `${room}/upgrade`, { new_version: "12" })

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
    const events = { table: "events", condition: `NEW.body::jsonb ->> 'type' = '${type}'` }
    yield* database.refuse(events)
    const upgrading = yield* Effect.forkChild(Effect.exit(upgrade))
    yield* database.untilRefused()
    yield* restart(Effect.all([Fiber.join(upgrading), database.accept(events), meanwhile]))
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
  /** Alice is in the closed old room and in its replacement, which has her tags. */
  const assertUpgraded = Effect.gen(function* () {
    const { body } = yield* asAlice("GET", `${room}/state/m.room.tombstone`)
    const replacement = body.replacement_room
    const joined = (yield* asAlice("GET", "/joined_rooms")).body.joined_rooms
    assert.sameMembers(joined, [old, replacement])
    const levels = yield* asAlice("GET", `${room}/state/m.room.power_levels`)
    assert.strictEqual(levels.body.events_default, 50)
    const tags = yield* asAlice("GET", `/user/@alice:green.test/rooms/${encodeURIComponent(replacement)}/tags`)
    assert.deepStrictEqual(tags.body, { tags: { "m.favourite": {} } })
    assert.lengthOf(yield* tombstones, 1)
    assert.lengthOf(yield* unfinished, 0)
    return replacement as string
  })
  return {
    asAlice,
    assertUpgraded,
    interruptAt,
    logInAgain,
    makeDue,
    restart,
    room,
    tombstones,
    unfinished,
    upgrade
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
        const { asAlice, interruptAt, makeDue, restart, room, tombstones, unfinished } = yield* setUp
        yield* interruptAt("m.room.tombstone")
        assert.strictEqual((yield* asAlice("POST", `${room}/leave`, {})).status, 200)
        yield* restart(makeDue)
        yield* untilNone(unfinished)
        assert.lengthOf(yield* tombstones, 0)
      }).pipe(Effect.scoped),
    120_000
  )
})
