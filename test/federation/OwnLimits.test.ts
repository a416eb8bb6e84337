/** Large answers that this server gives up by a limit of its own: neither their servers nor what was asked for counts as lost. */
import { assert, describe, it, vi } from "@effect/vitest"
import { Destinations } from "@greenroom/actors/federation/Destinations"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { ArrivingAnswers, LargeAnswers } from "@greenroom/actors/runtime/AnswerBudget"
import { ArrivingBodies } from "@greenroom/actors/runtime/ArrivingBodies"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { makeLargeReads } from "@greenroom/store/LargeReads"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Fiber, Latch } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { homeServers, isMessage, type TestServer } from "./support/HomeServers.ts"
import { ids } from "./support/HostileNetwork.ts"
import { HostileServer, imaginedHash, notFound } from "./support/HostileServer.ts"

vi.setConfig({ testTimeout: 120_000 })

const padding = " ".repeat(2 * 1024 * 1024)

/** Alice of red in a room with Mallory of another server. There may be a third one. */
const world = Effect.gen(function* () {
  const other = new HostileServer("other.test", "today")
  const third = new HostileServer("third.test", "today")
  const others = { "other.test": yield* freePort, "third.test": yield* freePort }
  yield* other.listen(others["other.test"])
  yield* third.listen(others["third.test"])
  const [red] = (yield* homeServers(["red.test"], { others })) as [TestServer]
  const inRooms = <A, E>(use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) => red.run(Effect.flatMap(Rooms, use))
  const alice = yield* red.person("alice")
  const { room_id } = yield* inRooms((rooms) => rooms.create(alice, { room_version: "11", visibility: "public" }))
  const mallory = "@mallory:other.test"
  const address = { serverName: red.serverName, federationPort: red.settings.port }
  const room = yield* other.join(address, room_id, mallory)
  const lastFailure = red.run(
    Effect.flatMap(Destinations, ({ list }) =>
      Effect.map(list, (all) => all.find(({ destination }) => destination === other.serverName)?.lastFailureAt)
    )
  )
  const read = Effect.map(
    inRooms((rooms) => rooms.messages(alice, room_id, { dir: "b", limit: 100 })),
    ({ chunk }) => chunk.flatMap((event) => (event.type === "m.room.message" ? [event.content.body] : []))
  )
  return { other, third, red, alice, room_id, mallory, address, room, inRooms, lastFailure, read }
})

/** The same where red gives up every answer that is large. */
const scene = Effect.suspend(() => Effect.provideService(world, ArrivingAnswers, new ArrivingBodies(512 * 1024)))

const content = (body: string) => ({ msgtype: "m.text", body })

describe("Own limits", () => {
  it.live("history that was given up is asked for again by the next reader", () =>
    Effect.gen(function* () {
      const { address, alice, lastFailure, mallory, other, read, red, room } = yield* scene
      const state = ids([...room.state.values()])
      const earlier = other.event(room, { sender: mallory, content: content("earlier") })
      const last = other.event(room, { sender: mallory, content: content("last") }, { prevEvents: [earlier] })
      let isLarge = true
      other.respond = ({ path }) => {
        if (path.startsWith("/v1/state_ids/")) {
          return { status: 200, body: { pdu_ids: state, auth_chain_ids: state } }
        }
        if (!path.startsWith("/v1/backfill/")) return notFound
        return { status: 200, body: { pdus: [other.toPdu(earlier)], ...(isLarge ? { padding } : {}) } }
      }
      yield* other.tell(address, last)
      yield* red.sees(alice, isMessage("last"))
      assert.deepStrictEqual(yield* read, ["last"])
      assert.isUndefined(yield* lastFailure)
      isLarge = false
      assert.sameMembers([...(yield* read)], ["last", "earlier"])
    })
  )

  it.effect("history that has arrived and waits for a permit of this server is not requested from others", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.now())
      const permits = makeLargeReads({ tiers: [{ above: 0, requests: 1 }], most: Number.POSITIVE_INFINITY })
      const waits = yield* Latch.make(false)
      const largeAnswers = (owner: string) => {
        const allowance = permits(owner)
        const take = allowance.take.bind(allowance)
        return Object.assign(allowance, { take: (bytes: number) => Effect.andThen(waits.open, take(bytes)) })
      }
      const inWorld = Effect.provideService(world, LargeAnswers, largeAnswers)
      const { address, alice, mallory, other, read, red, room, room_id, third } = yield* inWorld
      yield* third.join(address, room_id, "@trudy:third.test")
      const state = ids([...room.state.values()])
      const earlier = other.event(room, { sender: mallory, content: content("earlier") })
      const last = other.event(room, { sender: mallory, content: content("last") }, { prevEvents: [earlier] })
      other.respond = ({ path }) => {
        if (path.startsWith("/v1/state_ids/")) {
          return { status: 200, body: { pdu_ids: state, auth_chain_ids: state } }
        }
        return path.startsWith("/v1/backfill/")
          ? { status: 200, body: { pdus: [other.toPdu(earlier)], padding: Array(2_000).fill(" ".repeat(1_000)) } }
          : notFound
      }
      yield* other.tell(address, last)
      yield* red.sees(alice, isMessage("last"))
      const ofOthers = permits("other work")
      yield* ofOthers.take(1)
      const reading = yield* Effect.forkChild(read)
      yield* waits.await
      // What else red does in this time is done before the time goes on.
      const second = Effect.andThen(
        TestClock.adjust("1 second"),
        red.run(SqlClient.SqlClient.use((sql) => Effect.orDie(sql`SELECT 1`)))
      )
      yield* Effect.repeat(second, { times: 20 })
      yield* ofOthers.release()
      assert.deepStrictEqual(yield* Fiber.join(reading), ["last", "earlier"])
      assert.notInclude(third.asked.join(), "/backfill/")
    })
  )

  it.live("a user whose join is given up may try again later", () =>
    Effect.gen(function* () {
      const { alice, inRooms, lastFailure, other, room } = yield* scene
      const elsewhere = "!elsewhere:other.test" as RoomId
      const version = other.useVersion(elsewhere, "11")
      const content = { membership: "join" }
      const template = other.event(
        { ...room, roomId: elsewhere },
        { type: "m.room.member", sender: alice.userId, state_key: alice.userId, content },
        { prevEvents: [imaginedHash()] }
      )
      other.respond = ({ path }) => {
        if (path.startsWith("/v1/make_join/")) {
          return { status: 200, body: { room_version: "11", event: version.toTemplate(template) } }
        }
        return path.startsWith("/v2/send_join/")
          ? { status: 200, body: { state: [], auth_chain: [], padding } }
          : notFound
      }
      const refused = yield* Effect.flip(
        inRooms((rooms) => rooms.join(alice, elsewhere, {}, undefined, [other.serverName]))
      )
      assert.strictEqual(refused._tag, "M_LIMIT_EXCEEDED")
      assert.isUndefined(yield* lastFailure)
    })
  )
})
