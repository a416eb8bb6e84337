/** Redactions by users of other servers, which may arrive before or after the events that they name. */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, formatUserId, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { type EventProposal, stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { generateSigningKey } from "@greenroom/room/Signing"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect, Result } from "effect"
import { Room } from "../../../src/room/RoomProtocol.ts"
import { Rooms } from "../../../src/room/Rooms.ts"
import { guest, layer as homeServer } from "../../TestHomeServer.ts"
import { message, timeline } from "../TestRoom.ts"

const [red, blue] = [ServerName.make("red.test"), ServerName.make("blue.test")]
const carol = formatUserId("carol", red)
const mallory = formatUserId("mallory", blue)
const keys = new Map([red, blue].map((server) => [server, generateSigningKey(server, "ed25519:1")]))
const serverOf = (userId: UserId) => (userId === carol ? red : blue)

/** A public room of a version, which carol and mallory of other servers have joined. */
const scene = Effect.fnUntraced(function* (id: string) {
  const rooms = yield* Rooms
  const version = roomVersion(id)!
  const alice = guest("alice")
  const { room_id } = yield* rooms.create(alice, { room_version: id, visibility: "public" })
  const room = (yield* Room.client)(room_id)
  for (const userId of [carol, mallory]) {
    const { event } = yield* room.MakeMembership({ handshake: "join", userId, versions: [id] })
    const join = Result.getOrThrow(version.complete(event, keys.get(serverOf(userId))!, Date.now()))
    yield* room.SendMembership({ origin: serverOf(userId), handshake: "join", event: join })
  }
  const ids = (yield* timeline(alice, room_id)).map(({ event_id }) => event_id)
  const known = new Map((yield* (yield* EventStore).byIds(ids)).map(({ event }) => [event.event_id, event]))
  const events = ids.map((eventId) => known.get(eventId)!)
  const state = new Map(
    events.flatMap((event) =>
      event.state_key === undefined ? [] : [[stateKeyOf(event.type, event.state_key), event] as const]
    )
  )
  const last = events.at(-1)!

  /** An event that follows the last one of the room, as the server of its sender makes it. */
  const make = (proposal: Omit<EventProposal, "room_id">): Event => {
    const prevEvents = [{ event_id: last.event_id, depth: last.depth, referenceHash: version.referenceHash(last) }]
    const place = {
      prevEvents,
      state: (type: string, key: string) => state.get(stateKeyOf(type, key)),
      now: Date.now()
    }
    return version.build({ ...proposal, room_id }, place, keys.get(serverOf(proposal.sender))!)
  }

  return {
    message: make({ type: "m.room.message", sender: carol, content: message("secret") }),
    redaction: (sender: UserId, redacts: EventId) => make({ type: "m.room.redaction", sender, content: {}, redacts }),
    receive: (event: Event) =>
      Effect.map(room.Receive({ origin: serverOf(event.sender), events: [event] }), ([outcome]) => outcome!),
    read: (eventId: EventId) => rooms.getEvent(alice, eventId)
  }
})

layer(homeServer, { excludeTestServices: true })("redactions of other servers", (it) => {
  for (const id of Array.from({ length: 12 }, (_, n) => `${n + 1}`)) {
    it.effect(`in version ${id} strip their event, whichever arrives first`, () =>
      Effect.gen(function* () {
        for (const isFirst of [true, false]) {
          const { message, read, receive, redaction } = yield* scene(id)
          const own = redaction(carol, message.event_id)
          for (const event of isFirst ? [own, message] : [message, own]) {
            assert.deepStrictEqual(yield* receive(event), { event_id: event.event_id })
          }
          const { content, redacted_because } = yield* read(message.event_id)
          assert.deepStrictEqual([content, redacted_because], [{}, own.event_id])
        }
      })
    )

    const isRejected = Number(id) < 3
    it.effect(
      isRejected
        ? `in version ${id} are rejected without the level, also before their event is here`
        : `in version ${id} are in the room without the level, and strip nothing`,
      () =>
        Effect.gen(function* () {
          for (const isFirst of [true, false]) {
            const { message, read, receive, redaction } = yield* scene(id)
            const malicious = redaction(mallory, message.event_id)
            const outcomes = new Map<EventId, string | undefined>()
            for (const event of isFirst ? [malicious, message] : [message, malicious]) {
              const { error, refusal } = yield* receive(event)
              outcomes.set(event.event_id, error ?? refusal)
            }
            assert.isUndefined(outcomes.get(message.event_id))
            assert.strictEqual(outcomes.get(malicious.event_id) !== undefined, isRejected)
            const { content, redacted_because } = yield* read(message.event_id)
            assert.deepStrictEqual([content.body, redacted_because], ["secret", undefined])
            if (!isRejected) assert.strictEqual((yield* read(malicious.event_id)).redacts, message.event_id)
          }
        })
    )
  }

  it.effect("that name an event of another room strip nothing, and are not shown", () =>
    Effect.gen(function* () {
      const [other, here] = [yield* scene("11"), yield* scene("11")]
      yield* other.receive(other.message)
      const misdirected = here.redaction(carol, other.message.event_id)
      const { refusal } = yield* here.receive(misdirected)
      assert.strictEqual(refusal, "The redacted event is of another room")
      assert.strictEqual((yield* Effect.flip(here.read(misdirected.event_id)))._tag, "M_NOT_FOUND")
      assert.strictEqual((yield* other.read(other.message.event_id)).content.body, "secret")
    })
  )
})
