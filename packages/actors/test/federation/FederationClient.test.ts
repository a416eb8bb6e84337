import { setImmediate } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { makeLargeReads, smallRead } from "@greenroom/store/LargeReads"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Fiber, Latch, Layer, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Destinations } from "../../src/federation/Destinations.ts"
import { FederationClient } from "../../src/federation/FederationClient.ts"
import * as FederationLayer from "../../src/federation/FederationLayer.ts"
import type { RemoteError, RemoteUnreachable } from "../../src/federation/RemoteError.ts"
import { ArrivingAnswers, LargeAnswers, withAnswerBudget } from "../../src/runtime/AnswerBudget.ts"
import { ArrivingBodies, type ArrivingBody } from "../../src/runtime/ArrivingBodies.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { type Reply, tlsServer } from "./support/TlsServer.ts"

const ourName = "us.test" as ServerName
const name = "example.org" as ServerName
const roomId = "!room:example.org" as RoomId
const alice = "@alice:example.org" as UserId

/** Our client, and a server that answers with `state.reply` until it is closed. */
const world = Effect.gen(function* () {
  const state: { reply: Reply | undefined } = { reply: { body: "{}" } }
  const server = yield* tlsServer(() => state.reply)
  const context = yield* Layer.build(
    FederationLayer.layer({ verifyCertificates: false, staticServers: { [name]: `127.0.0.1:${server.port}` } }).pipe(
      Layer.provide(SigningKeys.layer(ourName)),
      Layer.provide(Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })),
      Layer.provide(Layer.fresh(TestDatabase.layer))
    )
  )
  return {
    server,
    state,
    client: yield* Effect.provide(FederationClient, context),
    destinations: yield* Effect.provide(Destinations, context)
  }
})

const says = (status: number, body: unknown): Reply => ({ status, body: JSON.stringify(body) })

describe("FederationClient", () => {
  it.effect("an error of the other server keeps its errcode", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world
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
      const { client, state } = yield* world
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

  it.effect("an unreachable server is not tried again before its back-off ends, or until it sends a request", () =>
    Effect.gen(function* () {
      const { client, destinations, server, state } = yield* world
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
      const { client, state } = yield* world
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
      const { client, server, state } = yield* world
      state.reply = undefined
      const asking = yield* Effect.forkChild(Effect.flip(client.queryProfile(alice)))
      while (server.requests.length === 0) yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* Fiber.join(asking), { _tag: "RemoteUnreachable" })
    })
  )

  it.effect("many users who ask a silent server at once wait no longer than twice as long", () =>
    Effect.gen(function* () {
      const { client, server, state } = yield* world
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
      const { client } = yield* world
      const error = yield* Effect.flip(client.queryProfile("@a:us.test" as UserId))
      assert.strictEqual(error._tag, "RemoteUnreachable")
    })
  )

  it.live("of work with large answers little is under way at a time, and small answers do not wait", () =>
    Effect.gen(function* () {
      const { client, state } = yield* world
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
      const stateOf = (bytes: number) => ({ body: `{"pdus":[],"auth_chain":[]${" ".repeat(bytes)}}` })
      state.reply = stateOf(2 * smallRead)
      const workers = yield* Effect.forEach(["a", "b", "c", "d"], worker)
      yield* Effect.suspend(() => (read.length < 2 ? Effect.fail("waiting") : Effect.void)).pipe(
        Effect.retry(Schedule.spaced("10 millis"))
      )
      state.reply = stateOf(1_000)
      yield* client.getState(name, roomId)
      assert.strictEqual(read.length, 2)
      yield* end.open
      yield* Effect.forEach(workers, Fiber.join)
      assert.sameMembers(read, ["a", "b", "c", "d"])
    }).pipe(
      Effect.provideService(
        LargeAnswers,
        makeLargeReads({ requests: 2, large: 10 * smallRead, most: Number.POSITIVE_INFINITY })
      )
    )
  )

  /** Large answers that stop arriving, when they have arrived as far as they do. */
  const stalledAnswers = Effect.fnUntraced(function* (count: number, limit: number) {
    let arrived = 0
    const answers = new (class extends ArrivingBodies {
      override add(body: ArrivingBody, bytes: number) {
        arrived += bytes
        super.add(body, bytes)
      }
    })(limit)
    const { client, state } = yield* world
    const beginning = `{"pdus":[],"auth_chain":[]${" ".repeat(2 * smallRead)}`
    const asking = client.getState(name, roomId).pipe(Effect.provideService(ArrivingAnswers, answers))
    state.reply = { body: beginning, isUnfinished: true }
    const stalled = []
    while (stalled.length < count) {
      stalled.push(yield* Effect.forkChild(Effect.flip(asking)))
      while (arrived < stalled.length * beginning.length) yield* Effect.promise(() => setImmediate())
    }
    state.reply = { body: `${beginning}}` }
    return { asking, stalled }
  })

  const reasonOf = (fiber: Fiber.Fiber<RemoteError, unknown>) =>
    Effect.map(Fiber.join(fiber), (error) => [error._tag, (error as RemoteUnreachable).reason])

  it.live("large answers that stop arriving do not hold up others", () =>
    Effect.gen(function* () {
      const { asking, stalled } = yield* stalledAnswers(3, 128 * smallRead)
      assert.deepStrictEqual(yield* asking, { pdus: [], auth_chain: [] })
      for (const fiber of stalled) assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(yield* reasonOf(stalled[0]!), ["RemoteUnreachable", "a large answer arrives too slowly"])
    }).pipe(
      Effect.provideService(
        LargeAnswers,
        makeLargeReads({ requests: 1, large: 10 * smallRead, most: Number.POSITIVE_INFINITY })
      )
    )
  )

  it.live("where arriving answers hold too much together, the oldest are given up", () =>
    Effect.gen(function* () {
      const { asking, stalled } = yield* stalledAnswers(3, 7 * smallRead)
      for (const fiber of stalled) assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(yield* asking, { pdus: [], auth_chain: [] })
      assert.deepStrictEqual(yield* reasonOf(stalled[0]!), [
        "RemoteUnreachable",
        "too many large answers of other servers are arriving"
      ])
      assert.isUndefined(stalled[1]!.pollUnsafe())
    })
  )
})
