import { setImmediate } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { generateSigningKey } from "@greenroom/room/Signing"
import { EventLog } from "@greenroom/store/EventLog"
import { makeLargeReads, smallRead } from "@greenroom/store/LargeReads"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Latch, Layer, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Destinations } from "../../src/federation/Destinations.ts"
import { FederationClient } from "../../src/federation/FederationClient.ts"
import type { FederationOptions } from "../../src/federation/FederationConfig.ts"
import * as FederationLayer from "../../src/federation/FederationLayer.ts"
import { PduVerification } from "../../src/federation/PduVerification.ts"
import type { RemoteError } from "../../src/federation/RemoteError.ts"
import { ServerServerClient } from "../../src/federation/ServerServerClient.ts"
import { ArrivingAnswers, LargeAnswers, withAnswerBudget } from "../../src/runtime/AnswerBudget.ts"
import { ArrivingBodies, type ArrivingBody } from "../../src/runtime/ArrivingBodies.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { type Reply, tlsServer } from "./support/TlsServer.ts"

const ourName = "us.test" as ServerName
const name = "example.org" as ServerName
const roomId = "!room:example.org" as RoomId
const alice = "@alice:example.org" as UserId

/** Our client, and a server that answers with `state.reply` until it is closed, but does not give its keys. */
const world = Effect.fnUntraced(function* (options: FederationOptions = {}) {
  const state: { reply: Reply | undefined } = { reply: { body: "{}" } }
  const server = yield* tlsServer(({ path }) => (path.startsWith("/_matrix/key/") ? undefined : state.reply))
  const context = yield* Layer.build(
    FederationLayer.layer({
      verifyCertificates: false,
      staticServers: { [name]: `127.0.0.1:${server.port}` },
      ...options
    }).pipe(
      Layer.provide(Layer.merge(SigningKeys.layer(ourName), EventLog.layer)),
      Layer.provide(Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })),
      Layer.provide(Layer.fresh(TestDatabase.layer))
    )
  )
  return {
    server,
    state,
    client: yield* Effect.provide(FederationClient, context),
    today: yield* Effect.provide(ServerServerClient, context),
    verification: yield* Effect.provide(PduVerification, context),
    destinations: yield* Effect.provide(Destinations, context)
  }
})

const says = (status: number, body: unknown): Reply => ({ status, body: JSON.stringify(body) })

describe("FederationClient", () => {
  it.effect("an error of the other server keeps its errcode", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world()
      state.reply = says(403, { errcode: "M_FORBIDDEN", error: "No" })
      const refused = yield* Effect.flip(client.queryProfile(alice))
      assert.deepInclude(refused, { _tag: "RemoteRefused", status: 403, errcode: "M_FORBIDDEN", error: "No" })
      state.reply = says(429, { errcode: "M_LIMIT_EXCEEDED", error: "Slow", retry_after_ms: 700 })
      assert.deepInclude(yield* Effect.flip(client.queryProfile(alice)), { status: 429, retryAfter: 700 })
      state.reply = { status: 500, body: "<html>" }
      assert.deepInclude(yield* Effect.flip(client.queryProfile(alice)), { status: 500, errcode: "M_UNKNOWN" })
      state.reply = { status: 302, body: "", headers: { location: "https://127.0.0.1:1/" } }
      assert.deepInclude(yield* Effect.flip(client.queryProfile(alice)), { _tag: "RemoteRefused", status: 302 })
    })
  )

  it.effect("an answer of another form than requested is a failure", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world()
      const eventId = "$e:us.test" as EventId
      const invalid = Effect.fnUntraced(function* (body: string) {
        state.reply = { body }
        const errors = yield* Effect.all([
          Effect.flip(client.getPdu(name, eventId)),
          Effect.flip(client.getState(name, roomId)),
          Effect.flip(client.backfill(name, roomId, [eventId], 5)),
          Effect.flip(client.sendJoin(name, roomId, eventId, {})),
          Effect.flip(client.makeJoin(name, roomId, "@a:us.test" as UserId)),
          Effect.flip(client.invite(name, roomId, eventId, {})),
          Effect.flip(client.queryDirectory("#a:example.org" as RoomAlias)),
          Effect.flip(client.queryPresence(alice))
        ])
        for (const error of errors) assert.strictEqual(error._tag, "RemoteInvalid", body)
      })
      yield* invalid("not JSON")
      yield* invalid("[]")
      yield* invalid("{}")
      yield* invalid('{"pdus":{},"state":[1],"auth_chain":[],"event":"x","room_id":"x","servers":[],"user_id":7}')
      yield* invalid(`{"pdus":[1],"auth_chain":[]}`)
    })
  )

  it.effect("a request that is not sent shows nothing of its server", () =>
    Effect.gen(function* () {
      const { client, destinations, server, state, today } = yield* world()
      const unsent = Effect.gen(function* () {
        const [asked, noted] = [server.requests.length, yield* destinations.list]
        const bad = { [alice]: Number.NaN }
        assert.deepInclude(yield* Effect.flip(today.queryKeys(name, bad)), { _tag: "RemoteInvalid", isUnsent: true })
        const state = withAnswerBudget(0, "a", client.getState(name, roomId))
        assert.deepInclude(yield* Effect.flip(state), { _tag: "RemoteInvalid", isUnsent: true })
        assert.deepStrictEqual(yield* destinations.list, noted)
        assert.strictEqual(server.requests.length, asked)
      })
      yield* unsent
      state.reply = says(503, {})
      yield* Effect.flip(client.queryProfile(alice))
      assert.strictEqual((yield* destinations.list)[0]?.failures, 1)
      yield* TestClock.adjust("1 second")
      yield* unsent
    })
  )

  it.effect("an unreachable server is not tried again before its back-off ends, or until it sends a request", () =>
    Effect.gen(function* () {
      const { client, destinations, server, state } = yield* world()
      const unreachable = Effect.flip(client.queryProfile(alice))
      state.reply = says(503, {})
      assert.deepInclude(yield* unreachable, { _tag: "RemoteUnreachable" })
      assert.isDefined((yield* destinations.list)[0]?.lastFailureAt)
      const asked = server.requests.length
      state.reply = says(200, { displayname: "Alice" })
      for (let i = 0; i < 5; i++) assert.property(yield* unreachable, "retryAt")
      assert.strictEqual(server.requests.length, asked)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* client.queryProfile(alice), { displayname: "Alice" })
      assert.strictEqual((yield* destinations.list)[0]?.failures, 0)

      yield* server.close
      assert.notProperty(yield* unreachable, "retryAt")
      assert.property(yield* unreachable, "retryAt")
      assert.isTrue(yield* destinations.heardFrom(name))
      assert.isFalse(yield* destinations.heardFrom(name))
      assert.notProperty(yield* unreachable, "retryAt")
    })
  )

  it.effect("requests that a user waits for are tried at once", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world()
      state.reply = says(503, {})
      yield* Effect.flip(client.queryProfile(alice))
      state.reply = says(200, { room_id: roomId, servers: [name, "not a name", 7] })
      assert.deepStrictEqual(yield* client.queryDirectory("#a:example.org" as RoomAlias), {
        room_id: roomId,
        servers: [name]
      })
      yield* client.queryProfile(alice)
    })
  )

  it.effect("a user waits ten seconds for the profile of a server that never answers", () =>
    Effect.gen(function* () {
      const { client, server, state } = yield* world()
      state.reply = undefined
      const asking = yield* Effect.forkChild(Effect.flip(client.queryProfile(alice)))
      while (server.requests.length === 0) yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* Fiber.join(asking), { _tag: "RemoteUnreachable" })
    })
  )

  it.effect("many users who ask a silent server at once wait no longer than twice as long", () =>
    Effect.gen(function* () {
      const { client, server, state } = yield* world()
      state.reply = undefined
      const errors: Array<RemoteError> = []
      const note = <E>(failed: Effect.Effect<RemoteError, E>) =>
        Effect.tap(failed, (error) => Effect.sync(() => errors.push(error)))
      const requests = Array.from({ length: 30 }, () => [
        note(Effect.flip(client.queryProfile(alice))),
        note(Effect.flip(client.queryDirectory("#a:example.org" as RoomAlias)))
      ]).flat()
      const asking = yield* Effect.forkChild(Effect.all(requests, { concurrency: "unbounded", discard: true }))
      while (server.requests.length < 8) yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("10 seconds")
      // Those that waited have failed, but for some whose turn came at that moment.
      while (errors.length + server.requests.length - 8 < 60) yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(asking)
      for (const error of errors) assert.strictEqual(error._tag, "RemoteUnreachable")
    })
  )

  it.effect("we do not ask ourselves", () =>
    Effect.gen(function* () {
      const { client } = yield* world()
      const error = yield* Effect.flip(client.queryProfile("@a:us.test" as UserId))
      assert.strictEqual(error._tag, "RemoteUnreachable")
    })
  )

  const stateOf = (bytes: number) => ({ body: `{"pdus":[],"auth_chain":[]${" ".repeat(bytes)}}` })

  const permitsFor = (requests: number) =>
    Effect.provideService(
      LargeAnswers,
      makeLargeReads({ tiers: [{ above: 0, requests }], most: Number.POSITIVE_INFINITY })
    )

  const eventually = (holds: () => boolean) =>
    Effect.suspend(() => (holds() ? Effect.void : Effect.fail("waiting"))).pipe(
      Effect.retry(Schedule.spaced("10 millis")),
      Effect.orDie
    )

  const isOwnLimit = (error: RemoteError) => error._tag === "RemoteUnreachable" && error.isOwnLimit === true

  it.live("of work with large answers little is under way at a time, and small answers do not wait", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world()
      const end = yield* Latch.make(false)
      const read: Array<string> = []
      const worker = (owner: string) =>
        client
          .getState(name, roomId)
          .pipe(
            Effect.andThen(Effect.sync(() => read.push(owner))),
            Effect.andThen(end.await),
            (work) => withAnswerBudget(50 * smallRead, owner, work),
            Effect.forkChild({ startImmediately: true })
          )
      state.reply = stateOf(2 * smallRead)
      const workers = yield* Effect.forEach(["a", "b", "c", "d"], worker)
      yield* eventually(() => read.length === 2)
      state.reply = stateOf(1_000)
      yield* client.getState(name, roomId)
      assert.strictEqual(read.length, 2)
      yield* end.open
      yield* Effect.forEach(workers, Fiber.join)
      assert.sameMembers(read, ["a", "b", "c", "d"])
    }).pipe(permitsFor(2))
  )

  it.live("work that has read a large answer and waits for another one holds up no other work", () =>
    Effect.gen(function* () {
      const { client, server, state } = yield* world()
      state.reply = stateOf(2 * smallRead)
      const goOn = yield* Latch.make(false)
      const stalled = yield* Effect.forEach(["a", "b"], (owner) =>
        client
          .getState(name, roomId)
          .pipe(
            Effect.andThen(goOn.await),
            Effect.andThen(client.getPdu(name, "$e:us.test" as EventId)),
            (work) => withAnswerBudget(50 * smallRead, owner, work),
            Effect.forkChild
          )
      )
      yield* eventually(() => server.requests.length === 2)
      const honest = yield* Effect.forkChild(client.getState(name, roomId))
      yield* eventually(() => server.requests.length === 3)
      state.reply = undefined
      yield* goOn.open
      assert.deepStrictEqual(yield* Fiber.join(honest), { pdus: [], auth_chain: [] })
      for (const fiber of stalled) assert.isUndefined(fiber.pollUnsafe())
    }).pipe(permitsFor(2))
  )

  it.live("work that waits for the keys of a silent server holds up no other work", () =>
    Effect.gen(function* () {
      const { client, server, state, verification } = yield* world()
      state.reply = stateOf(2 * smallRead)
      const version = roomVersion("11")!
      const message = version.build(
        { room_id: roomId, type: "m.room.message", sender: alice, content: { body: "hello", msgtype: "m.text" } },
        { prevEvents: [], state: () => undefined, now: 1 },
        generateSigningKey(name, "ed25519:key")
      )
      yield* client
        .getState(name, roomId)
        .pipe(
          Effect.andThen(verification.verifyPdus(version, [version.toPdu(message)])),
          Effect.andThen(Effect.never),
          (work) => withAnswerBudget(50 * smallRead, "a", work),
          Effect.forkChild
        )
      yield* eventually(() => server.requests.some(({ path }) => path.startsWith("/_matrix/key/")))
      assert.deepStrictEqual(yield* client.getState(name, roomId), { pdus: [], auth_chain: [] })
    }).pipe(permitsFor(1))
  )

  it.live("a join whose large answer stops arriving holds up no other work", () =>
    Effect.gen(function* () {
      const { client, state, today } = yield* world()
      const beginning = `{"auth_chain":[]${" ".repeat(2 * smallRead)}`
      state.reply = { body: beginning, isUnfinished: true }
      const { answers, arrived } = countingAnswers(128 * smallRead)
      const stalled = yield* today
        .sendJoin(name, roomId, "$e" as EventId, {}, false, () => Effect.void)
        .pipe(Effect.provideService(ArrivingAnswers, answers), Effect.forkChild)
      // What follows the first chunks counts until the permit is there, and again when the arrival has stopped.
      yield* eventually(() => arrived() >= beginning.length)
      state.reply = stateOf(2 * smallRead)
      assert.deepStrictEqual(yield* client.getState(name, roomId), { pdus: [], auth_chain: [] })
      assert.isUndefined(stalled.pollUnsafe())
    }).pipe(permitsFor(1))
  )

  it.live("the time limit of an answer does not include the wait for other work", () =>
    Effect.gen(function* () {
      const { client, destinations, state } = yield* world({ requestTimeout: 500 })
      state.reply = stateOf(2 * smallRead)
      const { answers, arrived } = countingAnswers(128 * smallRead)
      const end = yield* Latch.make(false)
      const asking = client.getState(name, roomId)
      const begin = <A>(work: Effect.Effect<A, RemoteError>) =>
        Effect.forkChild(Effect.provideService(work, ArrivingAnswers, answers))
      const first = yield* begin(withAnswerBudget(50 * smallRead, "a", Effect.andThen(asking, end.await)))
      yield* eventually(() => arrived() >= 2 * smallRead)
      const second = yield* begin(asking)
      yield* eventually(() => arrived() >= 4 * smallRead)
      // Longer than the four request timeouts that such an answer may take.
      yield* Effect.sleep("2500 millis")
      yield* end.open
      yield* Fiber.join(first)
      assert.deepStrictEqual(yield* Fiber.join(second), { pdus: [], auth_chain: [] })
      assert.isUndefined((yield* destinations.list)[0]?.lastFailureAt)
    }).pipe(permitsFor(1))
  )

  /** Counts the bytes of answers that arrive without a permit. */
  const countingAnswers = (limit: number) => {
    let arrived = 0
    const answers = new (class extends ArrivingBodies {
      override add(body: ArrivingBody, bytes: number) {
        arrived += bytes
        super.add(body, bytes)
      }
    })(limit)
    return { answers, arrived: () => arrived }
  }

  /** Large answers that stop arriving, when they have arrived as far as they do. */
  const stalledAnswers = Effect.fnUntraced(function* (count: number, limit: number) {
    const { answers, arrived } = countingAnswers(limit)
    const { client, destinations, state } = yield* world()
    const beginning = `{"pdus":[],"auth_chain":[]${" ".repeat(2 * smallRead)}`
    const asking = client.getState(name, roomId).pipe(Effect.provideService(ArrivingAnswers, answers))
    state.reply = { body: beginning, isUnfinished: true }
    const stalled = []
    while (stalled.length < count) {
      stalled.push(yield* Effect.forkChild(Effect.flip(asking)))
      while (arrived() < stalled.length * beginning.length) yield* Effect.promise(() => setImmediate())
    }
    state.reply = { body: `${beginning}}` }
    return { asking, client, destinations, stalled, state }
  })

  it.live("large answers that stop arriving do not hold up others", () =>
    Effect.gen(function* () {
      const { asking, destinations, stalled } = yield* stalledAnswers(3, 128 * smallRead)
      assert.deepStrictEqual(yield* asking, { pdus: [], auth_chain: [] })
      for (const fiber of stalled) assert.isUndefined(fiber.pollUnsafe())
      assert.deepInclude(yield* Fiber.join(stalled[0]!), {
        _tag: "RemoteUnreachable",
        reason: "a large answer arrives too slowly"
      })
      assert.isDefined((yield* destinations.list)[0]?.lastFailureAt)
    }).pipe(permitsFor(1))
  )

  it.live(
    "where arriving answers hold too much together, the oldest are given up, which is no failure of their server",
    () =>
      Effect.gen(function* () {
        const { asking, client, destinations, stalled } = yield* stalledAnswers(3, 7 * smallRead)
        for (const fiber of stalled) assert.isUndefined(fiber.pollUnsafe())
        assert.deepStrictEqual(yield* asking, { pdus: [], auth_chain: [] })
        assert.deepInclude(yield* Fiber.join(stalled[0]!), {
          _tag: "RemoteUnreachable",
          reason: "too many large answers of other servers are arriving",
          isOwnLimit: true
        })
        assert.isUndefined(stalled[1]!.pollUnsafe())
        assert.isUndefined((yield* destinations.list)[0]?.lastFailureAt)
        yield* client.getState(name, roomId)
      })
  )

  it.live("work that waits for a silent server is given up where others need the memory of what it has read", () =>
    Effect.gen(function* () {
      const { client, destinations, server, state } = yield* world()
      state.reply = stateOf(4 * smallRead)
      const { answers, arrived } = countingAnswers(7 * smallRead)
      const goOn = yield* Latch.make(false)
      const waiting = yield* client
        .getState(name, roomId)
        .pipe(
          Effect.andThen(goOn.await),
          Effect.andThen(Effect.flip(client.getPdu(name, "$e:us.test" as EventId))),
          (work) => withAnswerBudget(50 * smallRead, "a", work),
          Effect.provideService(ArrivingAnswers, answers),
          Effect.forkChild
        )
      yield* eventually(() => arrived() >= 4 * smallRead)
      state.reply = undefined
      yield* goOn.open
      yield* eventually(() => server.requests.length === 2 && arrived() >= 8 * smallRead)
      state.reply = stateOf(4 * smallRead)
      yield* Effect.provideService(client.getState(name, roomId), ArrivingAnswers, answers)
      assert.isTrue(isOwnLimit(yield* Fiber.join(waiting)))
      assert.isUndefined((yield* destinations.list)[0]?.lastFailureAt)
    })
  )
})
