/**
 * Receipts of users of other servers that come before their events, or while the database refuses them.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { expectOk, say } from "./support/Network.ts"
import { sceneOf, World } from "./support/TodaysHostility.ts"

vi.setConfig({ testTimeout: 120_000 })

const receiptEdu = (roomId: string, userId: string, eventId: string): Body => ({
  edu_type: "m.receipt",
  content: { [roomId]: { "m.read": { [userId]: { data: { ts: 1 }, event_ids: [eventId] } } } }
})

const sync = (person: Person, since: string, timeout = 0) =>
  expectOk(person.ask("GET", `//_matrix/client/v3/sync?timeout=${timeout}${since === "" ? "" : `&since=${since}`}`))

/** The events on which the user has receipts, as this answer says. */
const readBy = (answer: Body, roomId: string, userId: string): ReadonlyArray<string> =>
  (answer.rooms?.join?.[roomId]?.ephemeral?.events ?? []).flatMap(({ content, type }: Body) =>
    type !== "m.receipt"
      ? []
      : Object.keys(content).filter((eventId) => content[eventId]["m.read"]?.[userId] !== undefined)
  )

/** Waits until the person is shown the receipt. */
const isShown = (person: Person, roomId: string, userId: string, eventId: string, since: string): Effect.Effect<void> =>
  Effect.flatMap(sync(person, since, 20_000), (answer) =>
    readBy(answer, roomId, userId).includes(eventId)
      ? Effect.void
      : isShown(person, roomId, userId, eventId, answer.next_batch)
  )

layer(World.layer, { excludeTestServices: true, timeout: "3 minutes" })("Receipts of other servers", (it) => {
  it.effect("a receipt that comes before its event is shown with the event", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const start = (yield* sync(alice, "")).next_batch
      const [first, second] = [evil.event(room, { sender: mallory }), evil.event(room, { sender: mallory })]
      const early = [first, second].map(({ event_id }) => receiptEdu(room_id, mallory, event_id))
      assert.strictEqual((yield* evil.send(red, [], { edus: early })).status, 200)
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, mallory), [])
      // The second one has taken the place of the first.
      assert.deepStrictEqual(yield* evil.tell(red, first), [undefined])
      assert.deepStrictEqual(yield* evil.tell(red, second), [undefined])
      yield* isShown(alice, room_id, mallory, second.event_id, start)
    })
  )

  it.effect("a receipt of somebody who is not in the room does not wait", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* sceneOf("11")
      const start = (yield* sync(alice, "")).next_batch
      const event = evil.event(room, { sender: mallory })
      const edus = [receiptEdu(room_id, "@stranger:evil.test", event.event_id)]
      assert.strictEqual((yield* evil.send(red, [], { edus })).status, 200)
      assert.deepStrictEqual(yield* evil.tell(red, event), [undefined])
      const own = [receiptEdu(room_id, mallory, event.event_id)]
      assert.strictEqual((yield* evil.send(red, [], { edus: own })).status, 200)
      yield* isShown(alice, room_id, mallory, event.event_id, start)
      assert.deepStrictEqual(readBy(yield* sync(alice, start), room_id, "@stranger:evil.test"), [])
    })
  )

  it.effect(
    "a transaction whose receipt cannot be stored now is repeated; a receipt that never can be is dropped",
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
        yield* isShown(alice, room_id, mallory, eventId, start)
      })
  )
})
