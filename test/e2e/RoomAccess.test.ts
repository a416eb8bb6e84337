import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { Body } from "../support/Curl.ts"
import { done, inPath, next, now, people, refused, sendText, text } from "../support/People.ts"
import { type Person, roomOf, Stage } from "../support/Scene.ts"

layer(Stage.layer(), { excludeTestServices: true })("Room access", (it) => {
  it.effect("a redacted message loses its content, also for users who saw it", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const slip = yield* sendText(bob, room, "My password is swordfish")
      const from = yield* now(alice)
      refused(
        yield* bob.ask("POST", `/rooms/${inPath(room)}/redact/${inPath(yield* sendText(alice, room, "Mine"))}`, {}),
        403,
        "M_FORBIDDEN"
      )
      const redaction = yield* bob.ask("PUT", `/rooms/${inPath(room)}/redact/${inPath(slip)}/1`, { reason: "A slip" })
      assert.strictEqual(redaction.status, 200)
      const seen = yield* next(alice, from, ({ type }) => type === "m.room.redaction")
      assert.deepInclude(seen, { redacts: slip, event_id: redaction.body.event_id })
      const event = yield* alice.ask("GET", `/events/${inPath(slip)}`)
      assert.deepStrictEqual(event.body.content, {})
      const { text: page } = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=20`)
      assert.notInclude(page, "swordfish")
    })
  )

  it.effect("a kicked user may join again where the join rules allow it, a banned user may not", () =>
    Effect.gen(function* () {
      const [alice, bob, carol] = (yield* people("alice", "bob", "carol")) as [Person, Person, Person]
      const { body } = yield* alice.ask("POST", "/createRoom", { visibility: "public" })
      const room = inPath(body.room_id)
      for (const person of [bob, carol]) yield* person.ask("POST", `/join/${room}`, {})
      refused(yield* bob.ask("POST", `/rooms/${room}/kick`, { user_id: carol.userId }), 403, "M_FORBIDDEN")
      done(yield* alice.ask("POST", `/rooms/${room}/kick`, { user_id: bob.userId, reason: "Mind your manners" }))
      refused(yield* bob.ask("POST", `/rooms/${room}/send/m.room.message`, text("Hey")), 403, "M_FORBIDDEN")
      assert.strictEqual((yield* bob.ask("POST", `/rooms/${room}/join`, {})).status, 200)
      done(yield* alice.ask("PUT", `/rooms/${room}/ban/1`, { user_id: bob.userId }))
      refused(yield* bob.ask("POST", `/join/${room}`, {}), 403, "M_FORBIDDEN")
      refused(yield* carol.ask("POST", `/rooms/${room}/invite`, { user_id: bob.userId }), 403, "M_FORBIDDEN")
      const member = yield* alice.ask("GET", `/rooms/${room}/state/m.room.member/${inPath(bob.userId)}`)
      assert.strictEqual(member.body.membership, "ban")
    })
  )

  it.effect("a private room admits invited users, and shows nothing to others", () =>
    Effect.gen(function* () {
      const [alice, bob, eve] = (yield* people("alice", "bob", "eve")) as [Person, Person, Person]
      const { body } = yield* alice.ask("POST", "/createRoom", { visibility: "private", invite: [bob.userId] })
      const room = inPath(body.room_id)
      const secret = yield* sendText(alice, body.room_id, "Between us")
      refused(yield* eve.ask("POST", `/rooms/${room}/join`, {}), 403, "M_FORBIDDEN")
      for (const path of ["messages", "state", "members", "initialSync", "state/m.room.create"]) {
        refused(yield* eve.ask("GET", `/rooms/${room}/${path}`), 403, "M_FORBIDDEN")
      }
      refused(yield* eve.ask("GET", `/events/${inPath(secret)}`), 404, "M_NOT_FOUND")
      const { body: sync } = yield* bob.ask("GET", "/initialSync")
      const invitation = sync.rooms.find(({ room_id }: Body) => room_id === body.room_id)
      assert.deepInclude(invitation, { membership: "invite", inviter: alice.userId })
      assert.strictEqual((yield* bob.ask("POST", `/rooms/${room}/join`, {})).body.room_id, body.room_id)
      assert.strictEqual((yield* bob.ask("GET", `/events/${inPath(secret)}`)).status, 200)
    })
  )

  it.effect("an invitation can be declined", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const { body } = yield* alice.ask("POST", "/createRoom", { visibility: "private", invite: [bob.userId] })
      done(yield* bob.ask("POST", `/rooms/${inPath(body.room_id)}/leave`, {}))
      assert.deepStrictEqual((yield* bob.ask("GET", "/initialSync")).body.rooms, [])
      refused(yield* bob.ask("POST", `/rooms/${inPath(body.room_id)}/join`, {}), 403, "M_FORBIDDEN")
    })
  )

  it.effect("state events are set and read by type and key, and have the previous content", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const state = `/rooms/${inPath(room)}/state`
      yield* alice.ask("PUT", `${state}/m.room.topic`, { topic: "Coffee" })
      const from = yield* now(bob)
      yield* alice.ask("PUT", `${state}/m.room.topic`, { topic: "Tea" })
      const seen = yield* next(bob, from, ({ type }) => type === "m.room.topic")
      assert.deepInclude(seen, { state_key: "", content: { topic: "Tea" }, prev_content: { topic: "Coffee" } })
      yield* alice.ask("PUT", `${state}/org.example.seat/${inPath("rôw 1/é")}`, { taken: true })
      assert.deepStrictEqual((yield* bob.ask("GET", `${state}/org.example.seat/${inPath("rôw 1/é")}`)).body, {
        taken: true
      })
      const { body: all } = yield* bob.ask("GET", state)
      assert.isArray(all)
      assert.includeMembers(
        all.map(({ type }: Body) => type),
        ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules", "m.room.topic"]
      )
      refused(yield* bob.ask("PUT", `${state}/m.room.topic`, { topic: "Mine" }), 403, "M_FORBIDDEN")
      refused(yield* bob.ask("GET", `${state}/m.room.name`), 404, "M_NOT_FOUND")
      refused(yield* alice.ask("PUT", `${state}/m.room.topic`, { topic: 7 }), 400, "M_BAD_JSON")
    })
  )

  it.effect("members are listed with their presence, and a client can sync a single room", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      yield* bob.ask("PUT", `/presence/${inPath(bob.userId)}/status`, { presence: "free_for_chat" })
      const { body: members } = yield* alice.ask("GET", `/rooms/${inPath(room)}/members`)
      const entry = members.chunk.find(({ state_key }: Body) => state_key === bob.userId)
      assert.deepInclude(entry.content, { membership: "join" })
      assert.include(JSON.stringify(entry.content), "free_for_chat")
      yield* sendText(alice, room, "One")
      yield* sendText(alice, room, "Two")
      const { body: sync } = yield* alice.ask("GET", `/rooms/${inPath(room)}/initialSync?limit=1`)
      assert.deepInclude(sync, { room_id: room, membership: "join" })
      assert.deepStrictEqual(
        sync.messages.chunk.map(({ content }: Body) => content.body),
        ["Two"]
      )
      assert.sameMembers(
        sync.presence.map(({ content }: Body) => content.user_id),
        [alice.userId, bob.userId]
      )
      const all = (yield* alice.ask("GET", "/initialSync?limit=0")).body
      assert.deepStrictEqual(all.rooms[0].messages?.chunk ?? [], [])
    })
  )

  it.effect("aliases resolve to rooms, may contain any Unicode, and are removed by their creators", () =>
    Effect.gen(function* () {
      const [alice, bob, eve] = (yield* people("alice", "bob", "eve")) as [Person, Person, Person]
      const { body } = yield* alice.ask("POST", "/createRoom", { visibility: "public", name: "Ünïcödé" })
      const alias = "#ünïcödé:green.test"
      const path = `/directory/room/${inPath(alias)}`
      refused(yield* bob.ask("GET", path), 404, "M_NOT_FOUND")
      done(yield* alice.ask("PUT", path, { room_id: body.room_id }))
      assert.strictEqual((yield* bob.ask("GET", path)).body.room_id, body.room_id)
      refused(yield* bob.ask("PUT", path, { room_id: yield* roomOf(bob) }), 400, "M_ROOM_IN_USE")
      assert.strictEqual((yield* bob.ask("POST", `/join/${inPath(alias)}`, {})).body.room_id, body.room_id)
      const listed = (yield* (yield* Stage).ask("GET", "/publicRooms")).body.chunk.find(
        ({ room_id }: Body) => room_id === body.room_id
      )
      assert.deepInclude(listed, { name: "Ünïcödé", num_joined_members: 2 })
      assert.include(listed.aliases, alias)
      for (const other of [bob, eve]) refused(yield* other.ask("DELETE", path), 403, "M_FORBIDDEN")
      done(yield* alice.ask("DELETE", path))
      refused(yield* bob.ask("GET", path), 404, "M_NOT_FOUND")
    })
  )

  it.effect("power levels decide what a user may do, and users cannot raise their own", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const path = `/rooms/${inPath(room)}/state/m.room.power_levels`
      const { body: levels } = yield* alice.ask("GET", path)
      assert.strictEqual(levels.users[alice.userId], 100)
      const raised = { ...levels, users: { ...levels.users, [bob.userId]: 50 } }
      refused(yield* bob.ask("PUT", path, raised), 403, "M_FORBIDDEN")
      assert.strictEqual((yield* alice.ask("PUT", path, raised)).status, 200)
      assert.strictEqual(
        (yield* bob.ask("PUT", `/rooms/${inPath(room)}/state/m.room.name`, { name: "Ours" })).status,
        200
      )
      const more = { ...raised, users: { ...raised.users, [bob.userId]: 100 } }
      refused(yield* bob.ask("PUT", path, more), 403, "M_FORBIDDEN")
      refused(yield* bob.ask("POST", `/rooms/${inPath(room)}/kick`, { user_id: alice.userId }), 403, "M_FORBIDDEN")
    })
  )
})
