import { assert, layer } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { roomSeed } from "@greenroom/room/RoomPreset"
import { roomVersion, roomVersions } from "@greenroom/room/RoomVersions"
import { EventStore } from "@greenroom/store/EventStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Result } from "effect"
import { TestClock } from "effect/testing"
import { Room } from "../../src/room/RoomProtocol.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { enrol, errcodeOf, guest, layer as homeServer } from "../TestHomeServer.ts"
import { message, timeline } from "./TestRoom.ts"

/** The m.room.create of a room of version 12 that is made at a time, and the message that begins the room with it. */
const version12Room = Effect.fnUntraced(function* (session: Session, now: number) {
  const version = roomVersion("12")!
  const preset = { creator: session.userId, creatorProfile: {}, preset: "private_chat", invite: [] } as const
  const seed = roomSeed(preset, version)
  const proposal = { type: "m.room.create", sender: session.userId, state_key: "", content: seed.create }
  const create = Result.getOrThrow(version.createRoom(proposal, yield* (yield* SigningKeys).current, now))
  const room = (yield* Room.client)(create.room_id)
  return { begin: room.Create({ create, version: "12", listed: false, state: seed.state }), create, seed, version }
})

layer(homeServer, { excludeTestServices: true })("rooms of every version", (it) => {
  for (const id of roomVersions.keys()) {
    it.effect(`version ${id}: talk, state, memberships, redactions, power levels, history`, () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const store = yield* EventStore
        const name = `v${id.replace("-", "")}`
        const [alice, bob, carol] = [guest(`alice-${name}`), guest(`bob-${name}`), guest(`carol-${name}`)]
        yield* enrol(bob, carol)
        const { room_id } = yield* rooms.create(alice, {
          room_version: id,
          visibility: "private",
          name: "Old and new",
          topic: "Versions",
          room_alias_name: `alias-${name}`,
          invite: [bob.userId]
        })
        assert.strictEqual((yield* rooms.getState(alice, room_id, "m.room.create", "")).room_version, id)
        yield* rooms.join(bob, `#alias-${name}:green.test` as RoomId)
        yield* rooms.send(bob, room_id, "m.room.message", message("hello"), "1")
        const spoken = yield* rooms.send(bob, room_id, "m.room.message", message("regretted"))
        assert.strictEqual(
          yield* errcodeOf(rooms.setState(bob, room_id, "m.room.topic", "", { topic: "mine" })),
          "M_FORBIDDEN"
        )
        const levels = yield* rooms.getState(alice, room_id, "m.room.power_levels", "")
        const users = { ...(levels.users as JsonObject), [bob.userId]: 50 }
        yield* rooms.setState(alice, room_id, "m.room.power_levels", "", { ...levels, users })
        yield* rooms.setState(bob, room_id, "m.room.topic", "", { topic: "mine" })
        assert.deepStrictEqual((yield* rooms.getState(alice, room_id, "m.room.topic", "")).topic, "mine")
        yield* rooms.redact(alice, room_id, spoken.event_id, { reason: "better not" })
        yield* rooms.setMembership(alice, room_id, "invite", carol.userId)
        yield* rooms.join(carol, room_id)
        assert.strictEqual(yield* errcodeOf(rooms.setMembership(carol, room_id, "kick", bob.userId)), "M_FORBIDDEN")
        yield* rooms.setMembership(bob, room_id, "ban", carol.userId)
        assert.strictEqual(yield* errcodeOf(rooms.setMembership(alice, room_id, "kick", carol.userId)), "M_BAD_STATE")
        yield* rooms.setMembership(alice, room_id, "unban", carol.userId)
        // The room is read from the store, and goes on.
        yield* (yield* RoomStore).open(room_id)
        yield* rooms.send(bob, room_id, "m.room.message", message("still here"))
        const chunk = yield* timeline(alice, room_id)
        assert.deepStrictEqual(
          chunk.filter(({ type }) => type === "m.room.message").map(({ content }) => content),
          [message("hello"), {}, message("still here")]
        )
        const stored = yield* store.byIds(chunk.map(({ event_id }) => event_id))
        const version = roomVersion(id)!
        for (const { event } of stored) {
          assert.strictEqual(event.room_id, room_id)
          if (id !== "1-draft") assert.isString(event.hashes?.sha256, "the hash is made with the event")
          if (event.event_id === spoken.event_id) continue
          const sent = version.fromPdu(version.toPdu(version.sign(event, yield* (yield* SigningKeys).current)))
          assert.strictEqual(Result.getOrThrow(sent).event_id, event.event_id)
        }
        const snapshot = yield* rooms.initialSync(bob, room_id, 5)
        assert.strictEqual(snapshot.messages!.chunk.at(-1)!.content.body, "still here")
        assert.deepStrictEqual(
          new Set(
            snapshot.state!.filter(({ type }) => type === "m.room.member").map(({ content }) => content.membership)
          ),
          new Set(["join", "leave"])
        )
      })
    )
  }

  it.effect("refuses an unknown version, and the error names the known ones", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const error = yield* Effect.flip(rooms.create(guest("erin"), { room_version: "13" }))
      assert.strictEqual(error._tag, "M_UNSUPPORTED_ROOM_VERSION")
      assert.include(error.error, "12")
    })
  )

  it.effect("a server that lacks the version of a room gets an error that names it", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const { room_id } = yield* rooms.create(guest("alice"), { room_version: "12" })
      const bob = "@bob:red.test" as Session["userId"]
      const room = (yield* Room.client)(room_id)
      const refused = yield* Effect.flip(room.MakeMembership({ handshake: "join", userId: bob, versions: ["1", "11"] }))
      assert.deepInclude(refused, { _tag: "M_INCOMPATIBLE_ROOM_VERSION", room_version: "12" })
    })
  )

  it.effect("a hundred equal rooms of version 12 that are made at once are a hundred rooms", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const made = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => rooms.create(alice, { room_version: "12", visibility: "private" }),
        { concurrency: "unbounded" }
      )
      const ids = new Set(made.map(({ room_id }) => room_id))
      assert.strictEqual(ids.size, 100)
      for (const id of ids) {
        const [first] = yield* timeline(alice, id)
        assert.strictEqual(id, first!.event_id.replace("$", "!"), "the room has the hash of its m.room.create")
      }
    })
  )

  it.effect("of equal m.room.create events of version 12 that arrive at once one begins the room", () =>
    Effect.gen(function* () {
      const alice = guest("alice")
      const { begin, create, seed } = yield* version12Room(alice, 1_000_000)
      const answers = yield* Effect.all(
        Array.from({ length: 10 }, () => begin),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.filter((answer) => answer !== null),
        [{ room_id: create.room_id }]
      )
      assert.lengthOf(yield* timeline(alice, create.room_id), 1 + seed.state.length)
    })
  )

  it.effect(
    "a PUT that makes a room of version 12 makes one, repeated at once, later, and after the room was forgotten",
    () =>
      Effect.gen(function* () {
        const rooms = yield* Rooms
        const alice = guest("alice")
        const make = rooms.create(alice, { room_version: "12", room_alias_name: "only-one" }, "once")
        const [first, ...others] = yield* Effect.all([make, make, make, make], { concurrency: "unbounded" })
        for (const other of others) assert.deepStrictEqual(other, first)
        yield* (yield* RoomStore).open(first!.room_id)
        assert.deepStrictEqual(yield* make, first)
        const another = yield* rooms.create(alice, { room_version: "12" }, "twice")
        assert.notStrictEqual(another.room_id, first!.room_id)
      })
  )
})

layer(homeServer)("a room of version 12 whose ID exists", (it) => {
  it.effect("is made with a later timestamp, and its alias names it", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      yield* TestClock.setTime(1_000_000)
      const { begin, create, seed, version } = yield* version12Room(alice, 1_000_000)
      yield* begin
      const options = { version, seed, listed: false, invite: [], aliasName: "later" }
      const { room_alias, room_id } = yield* rooms.createSeeded(alice, options)
      assert.notStrictEqual(room_id, create.room_id)
      const [first] = yield* timeline(alice, room_id)
      assert.strictEqual(first!.origin_server_ts, 1_000_001)
      assert.strictEqual((yield* rooms.resolveAlias(room_alias!)).room_id, room_id)
    })
  )
})
