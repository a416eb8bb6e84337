/**
 * Events and floods of a hostile server that is in the room: extreme depths, references to other rooms, reused signatures, and floods.
 *
 * Source: the server-server specification, and the rules of the room versions.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Deferred, Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import { exchangeMessages, ids, isHealthy, refusalsOf } from "./support/HostileNetwork.ts"
import { imaginedHash, notFound } from "./support/HostileServer.ts"
import { expectOk, isMember, readBack, reads, say, sees, stateOf } from "./support/Network.ts"
import { Servers, sceneOf, versions } from "./support/TodaysHostility.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })(
  "Events and floods of a hostile server",
  (it) => {
    for (const version of versions) {
      const named = (name: string) => `version ${version}: ${name}`

      it.effect(named("an event of the greatest depth leaves the room and its order usable"), () =>
        Effect.gen(function* () {
          const here = yield* sceneOf(version)
          const { alice, bob, blue, evil, mallory, red, room: known } = here
          const deep = evil.event(known, { sender: mallory }, { prevEvents: known.extremities })
          const greatest = evil.remake(deep, { depth: Number.MAX_SAFE_INTEGER })
          for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, greatest), [undefined])
          yield* exchangeMessages(here)
          yield* exchangeMessages(here)
          const timelines = yield* Effect.forEach([alice, bob], (person) =>
            Effect.map(readBack(person, here.room_id), ids)
          )
          assert.deepStrictEqual(timelines[0], timelines[1])
          // A greater depth has no canonical form.
          const pdu = { ...evil.toPdu(deep), depth: 2 ** 53 }
          const { body, status } = yield* evil.send(red, [pdu])
          assert.strictEqual(status, 200)
          for (const { error } of Object.values<Body>(body.pdus)) assert.isString(error)
          yield* exchangeMessages(here)
          for (const { depth } of yield* red.events(here.room_id)) assert.isAtMost(depth, Number.MAX_SAFE_INTEGER)
        })
      )

      it.effect(named("an event with keys of the draft's PDUs beside its own is one of its room"), () =>
        Effect.gen(function* () {
          const { blue, bob, evil, mallory, red, room: known, room_id } = yield* sceneOf(version)
          const content = { msgtype: "m.text", body: "with more keys" }
          const event = evil.remake(evil.event(known, { sender: mallory, content }), {
            pdu_id: "1",
            context: "!elsewhere:evil.test"
          })
          for (const server of [red, blue]) assert.deepStrictEqual(yield* evil.tell(server, event), [undefined])
          yield* reads(bob, room_id, "with more keys")
        })
      )

      it.effect(named("a redaction does not apply to an event of another room"), () =>
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
          yield* exchangeMessages(here)
          for (const person of [alice, bob]) {
            const found = (yield* readBack(person, other)).find(({ event_id }) => event_id === secret)
            assert.strictEqual(found?.content.body, "keep this")
          }
        })
      )
    }

    it.effect("the signature of an authorised restricted join is not valid for another room or another user", () =>
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
        // The closed room with the state of the open one.
        const other = { ...known, roomId: closed }
        evil.useVersion(closed, "11")
        const withOurs = (event: Event): Event => ({
          ...event,
          signatures: { ...event.signatures, [red.serverName]: ours }
        })
        const joinOf = (room: typeof known, userId: string) =>
          withOurs(
            evil.event(room, {
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
        yield* exchangeMessages({ alice, bob, room_id: closed })
      })
    )

    it.effect("events with many unknown predecessors cost few requests, and do not delay other work", () =>
      Effect.gen(function* () {
        const here = yield* sceneOf("11")
        const { blue, evil, mallory, red, room: known } = here
        const before = evil.asked.length
        const state = yield* stateOf(here.alice, here.room_id)
        evil.respond = noMissingEvents
        const wide = () =>
          evil.event(known, { sender: mallory }, { prevEvents: Array.from({ length: 19 }, () => imaginedHash()) })
        const flood = Array.from({ length: 50 }, wide)
        const exchanging = yield* Effect.forkChild(exchangeMessages(here))
        for (const refusal of yield* refusalsOf(evil, red, flood)) assert.match(refusal, /predecessors/)
        yield* Fiber.join(exchanging)
        assert.isAtMost(evil.asked.length - before, 100)
        assert.deepStrictEqual(yield* stateOf(here.alice, here.room_id), state)
        yield* isHealthy(blue)
      })
    )

    it.effect("to-device messages to unknown devices and users are dropped, and those of a flood arrive in order", () =>
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
        yield* exchangeMessages(here)
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

    it.effect("transactions of a server are handled one after the other, in the order of their arrival", () =>
      Effect.gen(function* () {
        const { alice, evil, mallory, red, room: known } = yield* sceneOf("11")
        const direct = (index: number): Body => ({
          edu_type: "m.direct_to_device",
          content: {
            sender: mallory,
            type: "m.test",
            message_id: `t${index}`,
            messages: { [alice.userId]: { "*": { index } } }
          }
        })
        const asked = Deferred.makeUnsafe<void>()
        evil.respond = () => {
          Deferred.doneUnsafe(asked, Effect.void)
          return "never"
        }
        const orphan = evil.event(known, { sender: mallory }, { prevEvents: [imaginedHash()] })
        const first = yield* Effect.forkChild(evil.send(red, [evil.toPdu(orphan)], { edus: [direct(1)] }))
        yield* Deferred.await(asked)
        const second = yield* Effect.forkChild(evil.send(red, [], { edus: [direct(2)] }))
        yield* say(alice, yield* createRoom(alice, "11"), "meanwhile")
        evil.respond = noMissingEvents
        evil.hangUp()
        const answers = [yield* Fiber.join(first), yield* Fiber.join(second)]
        assert.deepStrictEqual(
          answers.map(({ status }) => status),
          [200, 200]
        )
        const synced = yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync?timeout=0"))
        assert.deepStrictEqual(
          synced.to_device.events.map(({ content }: Body) => content.index),
          [1, 2]
        )
      })
    )

    it.effect(
      "a transaction fails if a message to devices cannot be stored for now, and its repeat stores it once",
      () =>
        Effect.gen(function* () {
          const { alice, evil, mallory, red } = yield* sceneOf("11")
          const messages = { [alice.userId]: { "*": {} } }
          const edus = [
            {
              edu_type: "m.direct_to_device",
              content: { sender: mallory, type: "m.test", message_id: "late", messages }
            }
          ]
          const give = Effect.map(evil.send(red, [], { transactionId: "late", edus }), ({ status }) => status)
          yield* red.select(`CREATE FUNCTION refuse_message() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF NEW.sender = ''${mallory}'' THEN RAISE SQLSTATE ''53100''; END IF; RETURN NEW; END'`)
          yield* red.select(`CREATE TRIGGER refuse_message BEFORE INSERT ON to_device_messages
          FOR EACH ROW EXECUTE FUNCTION refuse_message()`)
          assert.isAtLeast(yield* give, 500)
          yield* red.select("DROP TRIGGER refuse_message ON to_device_messages")
          for (let time = 0; time < 2; time++) assert.strictEqual(yield* give, 200)
          const synced = yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync?timeout=0"))
          assert.lengthOf(synced.to_device.events, 1)
        })
    )

    it.effect(
      "a message to devices that comes again arrives once; message IDs of different senders are not the same",
      () =>
        Effect.gen(function* () {
          const { alice, evil, mallory, red } = yield* sceneOf("11")
          const direct = (sender: string): Body => ({
            edu_type: "m.direct_to_device",
            content: { sender, type: "m.test", message_id: "same", messages: { [alice.userId]: { "*": {} } } }
          })
          const senders = [mallory, mallory.replace("@", "@other-")]
          for (const sender of [...senders, mallory]) yield* evil.send(red, [], { edus: [direct(sender)] })
          const synced = yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync?timeout=0"))
          assert.deepStrictEqual(
            synced.to_device.events.map(({ sender }: Body) => sender),
            senders
          )
        })
    )
  }
)

const noMissingEvents = ({ path }: { readonly path: string }) =>
  path.startsWith("/v1/get_missing_events/") ? { status: 200, body: { events: [] } } : notFound
