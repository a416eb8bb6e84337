/**
 * Receipts of users of other servers that arrive before their events, or while the database refuses them.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { notFound } from "./support/HostileServer.ts"
import { expectOk, type HomeServer, isMember, reads, say, sees } from "./support/Network.ts"
import { createRoom, todaysScene } from "./support/TodaysScene.ts"
import { Servers } from "./support/TwoHostileServers.ts"

vi.setConfig({ testTimeout: 120_000 })

/** Alice of red, Bob of blue and Mallory of evil in a public room of a version. */
const sceneOf = (version: string) => Effect.flatMap(Servers, ({ network }) => todaysScene(network, version))

const receiptEdu = (roomId: string, userId: string, eventId: string): Body => ({
  edu_type: "m.receipt",
  content: { [roomId]: { "m.read": { [userId]: { data: { ts: 1 }, event_ids: [eventId] } } } }
})

const sync = (person: Person, since: string, timeout = 0) =>
  expectOk(person.ask("GET", `//_matrix/client/v3/sync?timeout=${timeout}${since === "" ? "" : `&since=${since}`}`))

/** The events on which the user has receipts in this answer. */
const readBy = (answer: Body, roomId: string, userId: string): ReadonlyArray<string> =>
  (answer.rooms?.join?.[roomId]?.ephemeral?.events ?? []).flatMap(({ content, type }: Body) =>
    type !== "m.receipt"
      ? []
      : Object.keys(content).filter((eventId) => content[eventId]["m.read"]?.[userId] !== undefined)
  )

/** Syncs until an answer has the receipt. */
const untilReceipt = (
  person: Person,
  roomId: string,
  userId: string,
  eventId: string,
  since: string
): Effect.Effect<void> =>
  Effect.flatMap(sync(person, since, 20_000), (answer) =>
    readBy(answer, roomId, userId).includes(eventId)
      ? Effect.void
      : untilReceipt(person, roomId, userId, eventId, answer.next_batch)
  )

const untilNoEarlyReceipts = (server: HomeServer) =>
  Effect.repeat(server.select("SELECT event_id FROM early_receipts WHERE event_id NOT LIKE '$flood%'"), {
    until: (rows) => rows.length === 0
  })

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Receipts of other servers", (it) => {
  it.effect("a receipt that arrives before its event is shown once the event has arrived", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const start = (yield* sync(alice, "")).next_batch
      const [first, second] = [evil.event(room, { sender: mallory }), evil.event(room, { sender: mallory })]
      const early = [first, second].map(({ event_id }) => receiptEdu(room_id, mallory, event_id))
      assert.strictEqual((yield* evil.send(red, [], { edus: early })).status, 200)
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [])
      // The second receipt has replaced the first.
      assert.deepStrictEqual(yield* evil.tell(red, first), [undefined])
      assert.deepStrictEqual(yield* evil.tell(red, second), [undefined])
      yield* untilReceipt(alice, room_id, mallory, second.event_id, start)
    })
  )

  it.effect("a receipt whose event arrives from another server while the receipt is stored is shown at once", () =>
    Effect.gen(function* () {
      const { good } = yield* Servers
      const { alice, evil, mallory, number, red, room, room_id } = yield* sceneOf("11")
      const carol = `@carol${number}:good.test`
      good.respond = () => notFound
      yield* good.join(red, room_id, carol)
      yield* sees(alice, (event) => event.room_id === room_id && isMember(carol, "join")(event))
      const start = (yield* sync(alice, "")).next_batch
      const event = evil.event(room, { sender: mallory })
      // The receipt is not stored before its event, and a little later.
      yield* red.select(`CREATE FUNCTION await_event() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN WHILE NOT EXISTS (SELECT FROM events WHERE event_id = NEW.event_id) LOOP PERFORM pg_sleep(0.02); END LOOP;
         PERFORM pg_sleep(0.5); RETURN NEW; END'`)
      yield* red.select(`CREATE TRIGGER await_event BEFORE INSERT ON early_receipts
        FOR EACH ROW EXECUTE FUNCTION await_event()`)
      const edus = [receiptEdu(room_id, carol, event.event_id)]
      const sending = yield* Effect.forkChild(good.send(red, [], { edus }))
      yield* Effect.repeat(red.select("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), {
        until: (rows) => rows.length > 0,
        schedule: Schedule.spaced("20 millis")
      })
      assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
      assert.strictEqual((yield* Fiber.join(sending)).status, 200)
      yield* red.select("DROP TRIGGER await_event ON early_receipts")
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, carol), [event.event_id])
    })
  )

  it.effect("thousands of receipts of users who are not in the room cost a query for each EDU", () =>
    Effect.gen(function* () {
      const { alice, evil, red, room_id } = yield* sceneOf("11")
      const event = yield* say(alice, room_id, "read")
      const receipt = { data: { ts: 1 }, event_ids: [event] }
      const edus = Array.from({ length: 20 }, (_, edu) => {
        const users = Array.from({ length: 1_000 }, (_, user) => [`@stranger${edu}x${user}:evil.test`, receipt])
        return { edu_type: "m.receipt", content: { [room_id]: { "m.read": Object.fromEntries(users) } } }
      })
      const commits = Effect.map(
        red.select("SELECT xact_commit::integer AS count FROM pg_stat_database WHERE datname = current_database()"),
        ([row]) => row.count as number
      )
      const before = yield* commits
      assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
      assert.isBelow((yield* commits) - before, 2_000)
    })
  )

  for (const [end, stop] of [
    ["a restart", "stop"],
    ["a kill", "kill"]
  ] as const) {
    it.effect(`a receipt that arrives before its event is shown with it after ${end}`, () =>
      Effect.gen(function* () {
        const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
        const start = (yield* sync(alice, "")).next_batch
        const event = evil.event(room, { sender: mallory })
        const edus = [receiptEdu(room_id, mallory, event.event_id)]
        assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
        yield* red[stop]
        yield* red.start
        assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [])
        assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
        yield* untilReceipt(alice, room_id, mallory, event.event_id, start)
        yield* untilNoEarlyReceipts(red)
      })
    )
  }

  it.effect("a waiting receipt does not replace a later one", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const start = (yield* sync(alice, "")).next_batch
      const [late, next] = [evil.event(room, { sender: mallory }), yield* say(alice, room_id, "read this")]
      const receipt = (eventId: string) => evil.send(red, [], { edus: [receiptEdu(room_id, mallory, eventId)] })
      assert.strictEqual((yield* receipt(late.event_id)).status, 200)
      assert.strictEqual((yield* receipt(next)).status, 200)
      yield* untilReceipt(alice, room_id, mallory, next, start)
      assert.deepStrictEqual(yield* evil.tell(red, late), [undefined])
      yield* reads(alice, room_id, "a message")
      yield* untilNoEarlyReceipts(red)
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [next])
    })
  )

  it.effect("a receipt counts in the thread of its event, and is dropped for other threads", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const root = yield* say(alice, room_id, "root")
      const relation = { "m.relates_to": { rel_type: "m.thread", event_id: root } }
      const reply = evil.event(room, { sender: mallory, content: { msgtype: "m.text", body: "reply", ...relation } })
      assert.deepStrictEqual(yield* evil.tell(red, reply), [undefined])
      const read = (eventId: string, thread_id: string): Body => ({
        edu_type: "m.receipt",
        content: { [room_id]: { "m.read": { [mallory]: { data: { ts: 1, thread_id }, event_ids: [eventId] } } } }
      })
      const madeUp = Array.from({ length: 50 }, (_, index) => read(reply.event_id, `$made-up-${index}`))
      const edus = [...madeUp, read(reply.event_id, "main"), read(reply.event_id, root), read(root, "main")]
      assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
      const rows = yield* red.select(`SELECT thread_id, event_id FROM receipts WHERE user_id = '${mallory}'`)
      assert.sameDeepMembers(
        [...rows],
        [
          { thread_id: root, event_id: reply.event_id },
          { thread_id: "main", event_id: root }
        ]
      )
    })
  )

  it.effect("only the newest receipts of each server for unknown events are kept", () =>
    Effect.gen(function* () {
      const { evil, mallory, red, room_id } = yield* sceneOf("11")
      const receipt = (index: number): Body => ({
        edu_type: "m.receipt",
        content: {
          [room_id]: {
            "m.read": { [mallory]: { data: { ts: 1, thread_id: `$thread${index}` }, event_ids: [`$flood${index}`] } }
          }
        }
      })
      const indexes = Array.from({ length: 500 }, (_, index) => index)
      for (let from = 0; from < indexes.length; from += 100) {
        const edus = indexes.slice(from, from + 100).map(receipt)
        assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
      }
      const kept = yield* red.select(`SELECT event_id FROM early_receipts WHERE event_id LIKE '$flood%'`)
      assert.sameMembers(
        kept.map(({ event_id }) => event_id),
        indexes.slice(300).map((index) => `$flood${index}`)
      )
    })
  )

  it.effect("a receipt of a user who is not in the room, or for an event of another room, is dropped", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const start = (yield* sync(alice, "")).next_batch
      const event = evil.event(room, { sender: mallory })
      const edus = [receiptEdu(room_id, "@stranger:evil.test", event.event_id)]
      assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
      assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
      const elsewhere = yield* say(alice, yield* createRoom(alice, "11"), "elsewhere")
      const own = [event.event_id, elsewhere].map((eventId) => receiptEdu(room_id, mallory, eventId))
      assert.strictEqual((yield* evil.send(red, [], { edus: own })).status, 200)
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [event.event_id])
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, "@stranger:evil.test"), [])
    })
  )

  it.effect(
    "a transaction fails if a receipt cannot be stored for now, and succeeds if the receipt can never be stored",
    () =>
      Effect.gen(function* () {
        const { alice, evil, mallory, red, room_id } = yield* sceneOf("11")
        const start = (yield* sync(alice, "")).next_batch
        const eventId = yield* say(alice, room_id, "read this")
        const refuse = (state: string) =>
          Effect.andThen(
            red.select(`CREATE OR REPLACE FUNCTION refuse_receipt() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.user_id = ''${mallory}'' THEN RAISE SQLSTATE ''${state}''; END IF; RETURN NEW; END'`),
            red.select(`CREATE OR REPLACE TRIGGER refuse_receipt BEFORE INSERT ON receipts
            FOR EACH ROW EXECUTE FUNCTION refuse_receipt()`)
          )
        const give = (transactionId: string) =>
          evil.send(red, [], { transactionId, edus: [receiptEdu(room_id, mallory, eventId)] })
        yield* refuse("22000")
        assert.strictEqual((yield* give("refused")).status, 200)
        yield* refuse("53100")
        assert.isAtLeast((yield* give("repeated")).status, 500)
        yield* red.select("DROP TRIGGER refuse_receipt ON receipts")
        assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [])
        assert.strictEqual((yield* give("repeated")).status, 200)
        yield* untilReceipt(alice, room_id, mallory, eventId, start)
      })
  )
})
