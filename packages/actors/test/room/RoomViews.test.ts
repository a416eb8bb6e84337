import { assert, layer } from "@effect/vitest"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { Events } from "../../src/sync/Events.ts"
import { aliceAndBob, enrol, guest, layer as homeServer } from "../TestHomeServer.ts"
import { message, say } from "./TestRoom.ts"

/** The messages that a user reads in a room, oldest first. */
const readBy = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
  const { chunk } = yield* (yield* Rooms).messages(session, roomId, { dir: "f", limit: 1000 })
  return chunk.filter(({ type }) => type === "m.room.message").map(({ content }) => content.body)
})

/** The result of each request that reads a room: the error, or "shown". */
const looks = Effect.fnUntraced(function* (session: Session, roomId: RoomId, eventId: EventId) {
  const rooms = yield* Rooms
  const outcome = (look: Effect.Effect<unknown, { readonly _tag: string }>) =>
    Effect.match(look, { onFailure: ({ _tag }) => _tag, onSuccess: () => "shown" })
  return {
    messages: yield* outcome(rooms.messages(session, roomId, {})),
    state: yield* outcome(rooms.getFullState(session, roomId)),
    name: yield* outcome(rooms.getState(session, roomId, "m.room.name", "")),
    members: yield* outcome(rooms.members(session, roomId)),
    initialSync: yield* outcome(rooms.initialSync(session, roomId)),
    event: yield* outcome(rooms.getEvent(session, eventId))
  }
})

const nothing = (errcode: string) => ({
  messages: errcode,
  state: errcode,
  name: errcode,
  members: errcode,
  initialSync: errcode,
  event: "M_NOT_FOUND"
})

layer(homeServer, { excludeTestServices: true })("what a user may see of a room", (it) => {
  it.effect("a private room shows nothing to strangers, and only the invitation to invited users", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* Events
      const [alice, bob, eve] = [guest("alice1"), guest("bob1"), guest("eve1")]
      yield* enrol(bob)
      const { room_id } = yield* rooms.create(alice, { visibility: "private", name: "Private", invite: [bob.userId] })
      const said = yield* say(alice, room_id, "among us")
      assert.deepStrictEqual(yield* looks(eve, room_id, said), nothing("M_FORBIDDEN"))
      assert.deepStrictEqual(yield* looks(bob, room_id, said), nothing("M_FORBIDDEN"))
      assert.strictEqual((yield* Effect.flip(rooms.join(eve, room_id)))._tag, "M_FORBIDDEN")
      assert.deepStrictEqual((yield* events.initialSync(eve)).rooms, [])
      assert.deepStrictEqual((yield* events.initialSync(bob)).rooms, [
        { room_id, membership: "invite", inviter: alice.userId, visibility: "private" }
      ])
      const listed = (yield* rooms.publicRooms()).chunk.map((room) => room.room_id)
      assert.notInclude(listed, room_id)
      assert.deepStrictEqual(yield* looks(eve, "!none:green.test" as RoomId, said), nothing("M_FORBIDDEN"))
    })
  )

  it.effect("lists a public room with its name", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice2"), guest("bob2")]
      const options = { visibility: "public", name: "Hall", topic: "Talk", room_alias_name: "hall" } as const
      const { room_alias, room_id } = yield* rooms.create(alice, options)
      yield* rooms.join(bob, room_alias!)
      const listed = (yield* rooms.publicRooms()).chunk.find((room) => room.room_id === room_id)
      assert.deepStrictEqual(listed, {
        room_id,
        name: "Hall",
        topic: "Talk",
        aliases: [room_alias!],
        num_joined_members: 2
      })
      yield* rooms.leave(alice, room_id)
      yield* rooms.leave(bob, room_id)
      assert.isUndefined((yield* rooms.publicRooms()).chunk.find((room) => room.room_id === room_id))
    })
  )

  it.effect("users who left see the room as it was then, however they left and whatever followed", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* Events
      const alice = guest("alice3")
      const endings = {
        leave: (bob: Session, roomId: RoomId) => rooms.leave(bob, roomId),
        kick: (bob: Session, roomId: RoomId) => rooms.setMembership(alice, roomId, "kick", bob.userId),
        ban: (bob: Session, roomId: RoomId) => rooms.setMembership(alice, roomId, "ban", bob.userId),
        "leave, then banned": (bob: Session, roomId: RoomId) =>
          Effect.gen(function* () {
            yield* rooms.leave(bob, roomId)
            yield* say(alice, roomId, "behind his back")
            yield* rooms.setMembership(alice, roomId, "ban", bob.userId)
          }),
        "leave, then an invitation turned down": (bob: Session, roomId: RoomId) =>
          Effect.gen(function* () {
            yield* rooms.leave(bob, roomId)
            yield* say(alice, roomId, "behind his back")
            yield* rooms.setMembership(alice, roomId, "invite", bob.userId)
            yield* rooms.leave(bob, roomId)
          }),
        "leave, then a knock": (bob: Session, roomId: RoomId) =>
          Effect.gen(function* () {
            yield* rooms.leave(bob, roomId)
            yield* say(alice, roomId, "behind his back")
            yield* rooms.setState(alice, roomId, "m.room.join_rules", "", { join_rule: "knock" })
            yield* rooms.setMembership(bob, roomId, "knock", bob.userId)
          })
      }
      for (const [ending, end] of Object.entries(endings)) {
        const bob = guest(`bob3 ${ending.replaceAll(/[^a-z]/g, "")}`)
        const carol = guest("carol3")
        yield* enrol(bob, carol)
        const { room_id } = yield* rooms.create(alice, { visibility: "public", name: "Before" })
        yield* rooms.join(bob, room_id)
        const early = yield* say(alice, room_id, "early")
        yield* end(bob, room_id)
        yield* rooms.setState(alice, room_id, "m.room.name", "", { name: "After" })
        yield* rooms.setMembership(alice, room_id, "invite", carol.userId)
        yield* rooms.join(carol, room_id)
        const late = yield* say(alice, room_id, "late")
        assert.deepStrictEqual(yield* readBy(bob, room_id), ["early"], ending)
        const { chunk } = yield* rooms.messages(bob, room_id, { limit: 1 })
        assert.strictEqual(chunk[0]!.state_key, bob.userId, "the last event is the end of the own membership")
        assert.strictEqual((yield* rooms.getState(bob, room_id, "m.room.name", "")).name, "Before", ending)
        const members = (yield* rooms.members(bob, room_id)).chunk
        assert.sameMembers(
          members.map(({ state_key }) => state_key),
          [alice.userId, bob.userId],
          ending
        )
        for (const { content } of members) assert.notProperty(content, "presence", "only joined users see presence")
        const own = yield* rooms.getState(bob, room_id, "m.room.member", bob.userId)
        assert.strictEqual(own.membership, ending === "ban" ? "ban" : "leave", ending)
        assert.strictEqual((yield* rooms.getEvent(bob, early)).event_id, early)
        assert.strictEqual((yield* Effect.flip(rooms.getEvent(bob, late)))._tag, "M_NOT_FOUND")
        const sync = yield* rooms.initialSync(bob, room_id, 100)
        assert.notInclude(JSON.stringify(sync), "After", ending)
        assert.notInclude(JSON.stringify(sync), "late", ending)
        assert.deepStrictEqual(sync.presence, [])
        assert.deepStrictEqual((yield* events.initialSync(bob)).rooms, [])
        const afterwards = yield* Effect.flip(rooms.send(bob, room_id, "m.room.message", message("still here")))
        assert.strictEqual(afterwards._tag, "M_FORBIDDEN")
      }
    })
  )

  it.effect("users who were removed and are back see the whole history again", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob] = [guest("alice4"), guest("bob4")]
      yield* enrol(bob)
      const { room_id } = yield* rooms.create(alice, { visibility: "private", invite: [bob.userId] })
      yield* rooms.join(bob, room_id)
      yield* rooms.setMembership(alice, room_id, "kick", bob.userId, "too loud")
      yield* say(alice, room_id, "while away")
      assert.strictEqual((yield* Effect.flip(rooms.join(bob, room_id)))._tag, "M_FORBIDDEN")
      yield* rooms.setMembership(alice, room_id, "invite", bob.userId)
      yield* rooms.join(bob, room_id)
      yield* say(bob, room_id, "back")
      assert.deepStrictEqual(yield* readBy(bob, room_id), ["while away", "back"])
      yield* rooms.setMembership(alice, room_id, "ban", bob.userId)
      assert.strictEqual(
        (yield* Effect.flip(rooms.setMembership(alice, room_id, "invite", bob.userId)))._tag,
        "M_FORBIDDEN"
      )
      yield* rooms.setMembership(alice, room_id, "unban", bob.userId)
      yield* rooms.setMembership(alice, room_id, "invite", bob.userId)
      yield* rooms.join(bob, room_id)
      assert.strictEqual(
        (yield* looks(bob, room_id, (yield* rooms.messages(bob, room_id, {})).chunk[0]!.event_id)).state,
        "shown"
      )
    })
  )

  it.effect("an invitation lets a knocking user in; users on the list of a private room need none", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, bob, eve] = [guest("alice5"), guest("bob5"), guest("eve5")]
      yield* enrol(bob)
      const { room_id } = yield* rooms.create(alice, {})
      const joinRules = (content: Readonly<Record<string, string | ReadonlyArray<string>>>) =>
        rooms.setState(alice, room_id, "m.room.join_rules", "", content)
      assert.strictEqual(
        (yield* Effect.flip(rooms.setMembership(bob, room_id, "knock", bob.userId)))._tag,
        "M_FORBIDDEN"
      )
      yield* joinRules({ join_rule: "knock" })
      yield* rooms.setMembership(bob, room_id, "knock", bob.userId)
      assert.strictEqual((yield* Effect.flip(rooms.join(bob, room_id)))._tag, "M_FORBIDDEN")
      yield* rooms.setMembership(alice, room_id, "invite", bob.userId)
      yield* rooms.join(bob, room_id)
      yield* joinRules({ join_rule: "private", may_join: [eve.userId] })
      yield* rooms.join(eve, room_id)
      assert.strictEqual((yield* Effect.flip(rooms.join(guest("mallory5"), room_id)))._tag, "M_FORBIDDEN")
      assert.lengthOf((yield* rooms.members(alice, room_id)).chunk, 3)
    })
  )

  it.effect("members are shown with their presence", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const presences = yield* Presences
      const { alice, bob, room_id } = yield* aliceAndBob("6")
      yield* presences.set(alice, alice.userId, "unavailable", "tea")
      const { chunk } = yield* rooms.members(bob, room_id)
      assert.deepInclude(chunk.find(({ state_key }) => state_key === alice.userId)!.content, {
        membership: "join",
        presence: "unavailable",
        status_msg: "tea"
      })
      const { presence } = yield* rooms.initialSync(bob, room_id)
      assert.sameMembers(
        presence.map(({ content }) => content.user_id),
        [alice.userId, bob.userId]
      )
    })
  )

  it.effect("pages meet: backwards from the end, then forwards again, without a gap or a repeat", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice7")
      const { room_id } = yield* rooms.create(alice, {})
      yield* Effect.forEach(Array.from({ length: 23 }), (_, index) => say(alice, room_id, String(index)))
      const all = (yield* rooms.messages(alice, room_id, { dir: "f", limit: 1000 })).chunk.map(
        ({ event_id }) => event_id
      )
      const pages = Effect.fnUntraced(function* (dir: "f" | "b", from: string) {
        const found: Array<EventId> = []
        let at = from
        while (true) {
          const { chunk, end, start } = yield* rooms.messages(alice, room_id, { dir, from: at, limit: 5 })
          if (at !== "END" && at !== "START") assert.strictEqual(start, at)
          if (chunk.length === 0) return { found, end }
          found.push(...chunk.map(({ event_id }) => event_id))
          at = end
        }
      })
      const backwards = yield* pages("b", "END")
      assert.deepStrictEqual(backwards.found, all.toReversed())
      assert.deepStrictEqual((yield* pages("f", backwards.end)).found, all)
      assert.deepStrictEqual((yield* pages("f", "START")).found, all)
      const middle = yield* rooms.messages(alice, room_id, { limit: 7 })
      const older = yield* rooms.messages(alice, room_id, { from: middle.end, limit: 4 })
      const again = yield* rooms.messages(alice, room_id, { dir: "f", from: older.end, to: middle.end, limit: 100 })
      assert.deepStrictEqual(
        again.chunk.map(({ event_id }) => event_id),
        older.chunk.map(({ event_id }) => event_id).toReversed()
      )
      const bad = yield* Effect.flip(rooms.messages(alice, room_id, { from: "s1_x" }))
      assert.strictEqual(bad._tag, "M_BAD_PAGINATION")
    })
  )

  it.effect("feedback is bundled with its message, and ends where the reader's view ends", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const { alice, bob, room_id } = yield* aliceAndBob("8")
      const said = yield* say(alice, room_id, "read me")
      const feedback = (session: Session) =>
        rooms.send(session, room_id, "m.room.message.feedback", { type: "read", target_event_id: said })
      yield* feedback(bob)
      yield* rooms.leave(bob, room_id)
      yield* feedback(alice)
      const bundled = Effect.fnUntraced(function* (session: Session) {
        const { chunk } = yield* rooms.messages(session, room_id, { limit: 100, feedback: true })
        assert.isFalse(chunk.some(({ type }) => type === "m.room.message.feedback"))
        const found = chunk.find(({ event_id }) => event_id === said) as unknown as { feedback: ReadonlyArray<object> }
        return found.feedback.length
      })
      assert.strictEqual(yield* bundled(alice), 2)
      assert.strictEqual(yield* bundled(bob), 1)
    })
  )

  it.effect("a room's initial sync and the stream after it have every event once", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const events = yield* Events
      const alice = guest("alice9")
      const { room_id } = yield* rooms.create(alice, {})
      const numbers = Array.from({ length: 120 }, (_, index) => String(index))
      const [sync] = yield* Effect.all(
        [
          Effect.andThen(say(alice, room_id, "first"), rooms.initialSync(alice, room_id, 1000)),
          Effect.forEach(numbers, (body) => say(alice, room_id, body), { concurrency: 10 })
        ],
        { concurrency: 2 }
      )
      const stream = yield* events.poll(alice, { from: sync.messages!.end, timeout: 0, limit: 1000 })
      const bodies = [...sync.messages!.chunk, ...JSON.parse(stream.json)]
        .filter(({ type }) => type === "m.room.message")
        .map(({ content }) => content.body)
      assert.lengthOf(bodies, numbers.length + 1)
      assert.deepStrictEqual(new Set(bodies), new Set(["first", ...numbers]))
    })
  )
})
