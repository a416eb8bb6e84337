/**
 * Events and floods of a hostile server that is in the room: extreme numbers, references to other rooms, signatures that are used
 * again, and very many of everything.
 *
 * Source: the server-server specification, and the rules of the room versions.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import { ids, isHealthy, refusalsOf, talk } from "./support/HostileNetwork.ts"
import { imaginedHash } from "./support/HostileServer.ts"
import { expectOk, isMember, readBack, reads, say, sees, stateOf } from "./support/Network.ts"
import { sceneOf, versions, World } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough, nothing } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })(
  "Events and floods of a hostile server",
  (it) => {
    for (const version of versions) {
      const named = (name: string) => `version ${version}: ${name}`

      it.effect(named("an event of the greatest depth does not end the room, nor its order"), () =>
        Effect.gen(function* () {
          const here = yield* sceneOf(version)
          const { alice, bob, blue, evil, mallory, red, room: known } = here
          const deep = evil.event(known, { sender: mallory }, { prevEvents: known.extremities })
          const greatest = evil.remake(deep, { depth: Number.MAX_SAFE_INTEGER })
          for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, greatest), [undefined])
          yield* talk(here)
          yield* talk(here)
          const bodies = yield* Effect.forEach([alice, bob], (person) =>
            Effect.map(readBack(person, here.room_id), ids)
          )
          assert.deepStrictEqual(bodies[0], bodies[1])
          for (const { depth } of yield* red.events(here.room_id)) assert.isAtMost(depth, Number.MAX_SAFE_INTEGER)
          // A greater one has no canonical form.
          const pdu = { ...evil.toPdu(deep), depth: 2 ** 53 }
          const { body, status } = yield* evil.send(red, [pdu])
          assert.strictEqual(status, 200)
          for (const { error } of Object.values<Body>(body.pdus)) assert.isString(error)
          yield* talk(here)
        })
      )

      it.effect(named("a redaction reaches no event of another room"), () =>
        Effect.gen(function* () {
          const here = yield* sceneOf(version)
          const { alice, blue, bob, evil, mallory, red, room: known } = here
          const other = yield* createRoom(alice, version)
          yield* expectOk(joinThrough(bob, other, red))
          const secret = yield* say(alice, other, "keep this")
          yield* reads(bob, other, "keep this")
          const keys = version === "6" ? { redacts: secret } : {}
          const content = version === "6" ? {} : { redacts: secret }
          const redaction = evil.event(known, { type: "m.room.redaction", sender: mallory, content, ...keys } as never)
          for (const server of [red, blue]) yield* evil.tell(server, redaction)
          yield* talk(here)
          for (const person of [alice, bob]) {
            const found = (yield* readBack(person, other)).find(({ event_id }) => event_id === secret)
            assert.strictEqual(found?.content.body, "keep this")
          }
        })
      )
    }

    it.effect(
      "the authorisation of a restricted join counts in no other room, for no other user and no other join",
      () =>
        Effect.gen(function* () {
          const { alice, blue, bob, evil, number, red } = yield* sceneOf("11")
          const club = yield* createRoom(alice, "11")
          const rule = { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] }
          const guarded = () =>
            createRoom(alice, "11", {
              initial_state: [{ type: "m.room.join_rules", state_key: "", content: rule }]
            })
          const [open, closed] = [yield* guarded(), yield* guarded()]
          for (const roomId of [club, open, closed]) {
            yield* expectOk(joinThrough(bob, roomId, red))
            yield* sees(alice, (event) => event.room_id === roomId && isMember(bob.userId, "join")(event))
          }
          const spy = `@reuser${number}:evil.test`
          yield* evil.join(red, club, spy)
          const known = yield* evil.join(red, open, spy)
          const joined = (yield* red.events(open)).find(isMember(spy, "join"))!
          const ours = joined.signatures[red.serverName]!
          assert.isDefined(ours)
          const intruder = `@reused${number}:evil.test`
          // The room with restricted joins as the server would see it, if it were in.
          const other = { ...known, roomId: closed }
          evil.speaks(closed, "11")
          const withOurs = (event: Event): Event => ({
            ...event,
            signatures: { ...event.signatures, [red.serverName]: ours }
          })
          const joinOf = (place: typeof known, userId: string) =>
            withOurs(
              evil.event(place, {
                type: "m.room.member",
                state_key: userId,
                sender: userId,
                content: { ...joined.content, membership: "join" }
              })
            )
          for (const server of [red, blue]) {
            for (const event of [joinOf(known, intruder), joinOf(other, spy), joinOf(other, intruder)]) {
              const [refusal] = yield* evil.tell(server, event)
              assert.isString(refusal)
            }
          }
          for (const [person, roomId] of [
            [alice, open],
            [bob, closed]
          ] as const) {
            const path = `//_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/joined_members`
            assert.notProperty((yield* expectOk(person.ask("GET", path))).joined, intruder)
          }
          yield* talk({ alice, bob, room_id: closed })
        })
    )

    it.effect("events that follow very many unknown ones cost few requests, and delay nobody", () =>
      Effect.gen(function* () {
        const here = yield* sceneOf("11")
        const { blue, evil, mallory, red, room: known } = here
        const before = evil.asked.length
        const state = yield* stateOf(here.alice, here.room_id)
        evil.respond = nothingGiven
        const wide = () =>
          evil.event(known, { sender: mallory }, { prevEvents: Array.from({ length: 19 }, () => imaginedHash()) })
        const flood = Array.from({ length: 50 }, wide)
        const talking = yield* Effect.forkChild(talk(here))
        for (const refusal of yield* refusalsOf(evil, red, flood)) assert.match(refusal, /predecessors/)
        yield* Fiber.join(talking)
        assert.isAtMost(evil.asked.length - before, 100)
        assert.deepStrictEqual(yield* stateOf(here.alice, here.room_id), state)
        yield* isHealthy(blue)
      })
    )

    it.effect("messages to fifty thousand devices, and a flood of them, are read in bounded time", () =>
      Effect.gen(function* () {
        const here = yield* sceneOf("11")
        const { alice, evil, mallory, red } = here
        const direct = (message_id: string, messages: Body): Body => ({
          edu_type: "m.direct_to_device",
          content: { sender: mallory, type: "m.test", message_id, messages }
        })
        const devices = Object.fromEntries(
          Array.from({ length: 50_000 }, (_, index) => [`DEVICE${index}`, { n: index }])
        )
        const nobody = Object.fromEntries(
          Array.from({ length: 10_000 }, (_, index) => [`@nobody${index}:red.test`, { "*": {} }])
        )
        assert.strictEqual(
          (yield* evil.send(red, [], { edus: [direct("many", { [alice.userId]: devices })] })).status,
          200
        )
        assert.strictEqual((yield* evil.send(red, [], { edus: [direct("nobody", nobody)] })).status, 200)
        yield* talk(here)
        const edus = Array.from({ length: 100 }, (_, index) =>
          direct(`m${index}`, { [alice.userId]: { "*": { index } } })
        )
        assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
        const synced = yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync?timeout=0"))
        assert.deepStrictEqual(
          synced.to_device.events.map(({ content }: Body) => content.index),
          Array.from({ length: 100 }, (_, index) => index)
        )
      })
    )
  }
)

const nothingGiven = ({ path }: { readonly path: string }) =>
  path.startsWith("/v1/get_missing_events/") ? { status: 200, body: { events: [] } } : nothing
