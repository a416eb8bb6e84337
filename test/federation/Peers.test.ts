import { assert, describe, it } from "@effect/vitest"
import { Federation } from "@greenroom/actors/federation/Federation"
import { Peers } from "@greenroom/actors/federation/Peers"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { isMessage, message, readsIn, type TestServer } from "./support/HomeServers.ts"
import { nextWithPdus, rawPeer } from "./support/RawPeer.ts"
import { scene } from "./support/Scene.ts"

/** The destination blue as an operator sees it. */
const reportOfBlue = (red: TestServer) =>
  red.run(
    Effect.map(
      Effect.flatMap(Peers, (peers) => peers.list),
      (list) => list.find((destinationReport) => destinationReport.destination === "blue.test")
    )
  )

describe("Peers", () => {
  it.live("users of two servers join a room by its alias and exchange messages", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red, room_id, send } = yield* scene
      yield* send("hello")
      yield* blue.sees(bob, isMessage("hello"))
      yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.send(bob, room_id, "m.room.message", message("hi"))))
      yield* red.sees(alice, isMessage("hi"))
      assert.strictEqual((yield* reportOfBlue(red))?.backoff_until, undefined)
    })
  )

  it.live("events from a server's down time reach it once, in order, when it makes a request", () =>
    Effect.gen(function* () {
      const { blue, bob, red, room_id, send } = yield* scene
      yield* send("before")
      yield* blue.sees(bob, isMessage("before"))
      yield* blue.stop
      const bodies = Array.from({ length: 120 }, (_, index) => `while away ${index}`)
      for (const body of bodies) yield* send(body)
      const failing = Effect.gen(function* () {
        while (true) {
          const report = yield* reportOfBlue(red)
          if (report?.backoff_until !== undefined && report.queue_length >= 120) return report
          yield* Effect.yieldNow
        }
      })
      assert.isAtLeast((yield* failing).failures, 1)
      // A back-off as after a long outage, which only a request of blue ends.
      yield* red.stop
      yield* red.start
      yield* red.run(
        Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`UPDATE destinations SET retry_at = 9000000000000, failures = 17`
        )
      )
      yield* red.stop
      yield* red.start
      yield* blue.start
      yield* red.run(Effect.flatMap(Federation, (federation) => federation.heardFrom(blue.serverName)))
      yield* blue.sees(bob, isMessage("while away 119"))
      assert.deepStrictEqual(yield* readsIn(blue, bob, room_id), ["before", ...bodies])
      assert.deepStrictEqual((yield* reportOfBlue(red))?.failures, 0)
    })
  )

  it.live("a transaction whose answer was lost is sent again unchanged, also after a restart, and has one effect", () =>
    Effect.gen(function* () {
      const { blue, bob, red, room_id, send } = yield* scene
      yield* send("first")
      yield* blue.sees(bob, isMessage("first"))
      yield* blue.stop
      const attempts = yield* Effect.scoped(
        Effect.gen(function* () {
          const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
          yield* send("second")
          const lost = yield* nextWithPdus(received)
          lost.hangUp()
          yield* send("third")
          const again = yield* nextWithPdus(received)
          yield* red.stop
          yield* red.start
          const afterRestart = yield* nextWithPdus(received)
          afterRestart.hangUp()
          return [lost, again, afterRestart]
        })
      )
      // EDUs are not kept over a restart.
      const [lost, ...repeats] = attempts.map(({ body: { edus: _, ...body }, transactionId }) => ({
        body,
        transactionId
      }))
      for (const repeat of repeats) assert.deepStrictEqual(repeat, lost)
      assert.deepStrictEqual(attempts[1]!.body.edus, attempts[0]!.body.edus)
      yield* blue.start
      yield* red.run(Effect.flatMap(Federation, (federation) => federation.heardFrom(blue.serverName)))
      yield* blue.sees(bob, isMessage("third"))
      assert.deepStrictEqual(yield* readsIn(blue, bob, room_id), ["first", "second", "third"])
    })
  )

  it.live("a transaction that the receiver has lost is requested again", () =>
    Effect.gen(function* () {
      const { blue, bob, room_id, send } = yield* scene
      yield* send("first")
      yield* blue.sees(bob, isMessage("first"))
      yield* blue.stop
      yield* Effect.scoped(
        Effect.gen(function* () {
          const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
          yield* send("lost")
          const taken = yield* nextWithPdus(received)
          taken.answer(200, { pdus: {} })
        })
      )
      yield* blue.start
      yield* send("found")
      yield* blue.sees(bob, isMessage("lost"))
      yield* blue.sees(bob, isMessage("found"))
      assert.sameMembers(yield* readsIn(blue, bob, room_id), ["first", "lost", "found"])
    })
  )

  it.live(
    "requests to a server that answers with errors are retried with back-off, until all events have arrived",
    () =>
      Effect.gen(function* () {
        const { blue, red, send } = yield* scene
        yield* blue.stop
        const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
        yield* send("difficult")
        const refused = yield* nextWithPdus(received)
        refused.answer(500, { errcode: "M_UNKNOWN", error: "Something broke" })
        const again = yield* nextWithPdus(received)
        assert.strictEqual(again.transactionId, refused.transactionId)
        again.answer(200, { pdus: {} })
        yield* send("easy")
        const next = yield* nextWithPdus(received)
        assert.deepStrictEqual(next.body.prev_ids, [refused.transactionId])
        next.answer(200, { pdus: {} })
        const known = yield* red.run(Effect.flatMap(DestinationStore, (store) => store.list))
        assert.deepStrictEqual(
          known.map(({ failures }) => failures),
          [0]
        )
      })
  )

  it.live("a PDU that a server refuses is dropped, and the PDUs before and after it are sent", () =>
    Effect.gen(function* () {
      const { blue, red, send } = yield* scene
      yield* blue.stop
      const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
      yield* send("while others wait")
      const held = yield* nextWithPdus(received)
      for (const body of ["one", "two", "poison", "three", "four"]) yield* send(body)
      held.answer(200, { pdus: {} })
      const taken: Array<string> = []
      const refusals: Array<ReadonlyArray<string>> = []
      while (!taken.includes("four")) {
        const { answer, body } = yield* nextWithPdus(received)
        const bodies = body.pdus.map(({ content }) => content.body)
        if (bodies.includes("poison")) {
          refusals.push(bodies)
          answer(400, { errcode: "M_BAD_JSON", error: "A PDU is bad" })
        } else {
          taken.push(...bodies)
          answer(200, { pdus: {} })
        }
      }
      assert.deepStrictEqual(taken, ["one", "two", "three", "four"])
      assert.deepStrictEqual(refusals, [["one", "two", "poison", "three", "four"], ["poison"]])
      yield* send("afterwards")
      const next = yield* nextWithPdus(received)
      assert.deepStrictEqual(
        next.body.pdus.map(({ content }) => content.body),
        ["afterwards"]
      )
      next.answer(200, { pdus: {} })
      const isEmpty = Effect.map(reportOfBlue(red), (report) => report?.queue_length === 0)
      yield* Effect.repeat(isEmpty, { until: (empty) => empty })
    })
  )

  it.live(
    "a server that refuses everything, also after a restart, gets the acceptable events as soon as it accepts any",
    () =>
      Effect.gen(function* () {
        const { blue, red, send } = yield* scene
        yield* blue.stop
        const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
        yield* send("in vain")
        const first = yield* nextWithPdus(received)
        first.answer(403, { errcode: "M_FORBIDDEN", error: "Go away" })
        yield* red.stop
        yield* red.start
        for (const body of ["again in vain", "welcome"]) yield* send(body)
        while (true) {
          const { answer, body } = yield* nextWithPdus(received)
          const isWelcome = body.pdus.every(({ content }) => content.body === "welcome")
          if (isWelcome) answer(200, { pdus: {} })
          else answer(403, { errcode: "M_FORBIDDEN", error: "Go away" })
          if (isWelcome) return
        }
      })
  )
})
