/**
 * The promises of the client API, as people and their programs meet it: one gateway, many small stories.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Answer, Body } from "../support/Curl.ts"
import { waitFor } from "../support/Polling.ts"
import * as RawSocket from "../support/RawSocket.ts"
import { type Person, roomOf, Stage } from "../support/Scene.ts"

const text = (body: string) => ({ msgtype: "m.text", body })
const inPath = encodeURIComponent

let users = 0

/** So many users that nobody has met. */
const people = (...names: ReadonlyArray<string>) =>
  Effect.flatMap(Stage, ({ register }) => Effect.forEach(names, (name) => register(`${name}${++users}`)))

/** Tells that something was refused, and how. */
const refused = ({ body, status }: Answer, expectedStatus: number, errcode: string) => {
  assert.deepStrictEqual([status, body?.errcode], [expectedStatus, errcode])
  assert.isString(body.error)
  assert.notStrictEqual(body.error, "")
}

const done = ({ body, status }: Answer) => assert.deepStrictEqual([status, body], [200, {}])

const pollOf = (person: Person) => (path: string) => person.ask("GET", path)

const now = (person: Person) => Effect.map(person.ask("GET", "/events?timeout=0"), ({ body }): string => body.end)

/** The first event that reaches a person after `from` for which this holds. */
const next = (person: Person, from: string, isMeant: (event: Body) => boolean) =>
  Effect.map(waitFor(pollOf(person), from, isMeant), ({ event }) => event)

const say = (person: Person, room: string, body: string) =>
  Effect.map(person.ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, text(body)), ({ body }) => body.event_id)

layer(Stage.layer({ GREENROOM_TURN_URIS: "turn:turn.green.test", GREENROOM_TURN_SHARED_SECRET: "hush" }), {
  excludeTestServices: true
})("ClientApi", (it) => {
  it.effect("a repeated PUT, also one sent while the first is in flight, happens once", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      const path = `/rooms/${inPath(room)}/send/m.room.message/once`
      const answers = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => alice.ask("PUT", path, text("Only once")),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
      assert.strictEqual(new Set(answers.map(({ body }) => body.event_id)).size, 1)
      const { body: page } = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?dir=b&limit=5`)
      assert.lengthOf(
        page.chunk.filter((event: Body) => event.type === "m.room.message"),
        1
      )
      for (let count = 0; count < 20; count++) {
        const rooms = yield* Effect.forEach(
          Array.from({ length: 8 }),
          () => alice.ask("PUT", `/createRoom/${count}`, { name: "One" }),
          { concurrency: "unbounded" }
        )
        assert.lengthOf([...new Set(rooms.map(({ status, text }) => `${status} ${text}`))], 1)
        assert.strictEqual(rooms[0]!.status, 200)
      }
    })
  )

  it.effect("the same transaction ID of another login is another request", () =>
    Effect.gen(function* () {
      const { ask, person } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      const name = alice.userId.slice(1, alice.userId.indexOf(":"))
      const { body } = yield* ask("POST", "/login", {
        data: { type: "m.login.password", user: alice.userId, password: `secret of ${name}` }
      })
      const elsewhere = person(body)
      const room = yield* roomOf(alice)
      const path = `/rooms/${inPath(room)}/send/m.room.message/1`
      const first = yield* alice.ask("PUT", path, text("From the desk"))
      const second = yield* elsewhere.ask("PUT", path, text("From the phone"))
      assert.notStrictEqual(first.body.event_id, second.body.event_id)
    })
  )

  it.effect("a logout ends the token, its long polls and its sockets; other logins stay", () =>
    Effect.gen(function* () {
      const { ask, gateway, person } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      const name = alice.userId.slice(1, alice.userId.indexOf(":"))
      const other = person(
        (yield* ask("POST", "/login", {
          data: { type: "m.login.password", user: name, password: `secret of ${name}` }
        })).body
      )
      const socket = yield* RawSocket.open(gateway.url, { token: alice.token })
      done(yield* alice.ask("POST", "/logout", {}))
      assert.strictEqual(yield* socket.closed, 4001)
      refused(yield* alice.ask("GET", "/initialSync"), 401, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* other.ask("GET", "/initialSync")).status, 200)
    })
  )

  it.effect("a deactivated user leaves all rooms and cannot log in again, and the user ID stays taken", () =>
    Effect.gen(function* () {
      const { ask } = yield* Stage
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const from = yield* now(alice)
      const name = bob.userId.slice(1, bob.userId.indexOf(":"))
      done(yield* bob.ask("POST", "/unregister", {}))
      const left = yield* next(
        alice,
        from,
        ({ state_key, type }) => type === "m.room.member" && state_key === bob.userId
      )
      assert.deepStrictEqual([left.content.membership, left.room_id], ["leave", room])
      refused(yield* bob.ask("GET", "/events?timeout=0"), 401, "M_UNKNOWN_TOKEN")
      const credentials = { type: "m.login.password", user: name, password: `secret of ${name}` }
      refused(yield* ask("POST", "/login", { data: credentials }), 403, "M_FORBIDDEN")
      refused(yield* ask("POST", "/register", { data: credentials }), 400, "M_USER_IN_USE")
    })
  )

  it.effect("messages can be paged through in both directions, without a gap or a repetition", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      const said = Array.from({ length: 23 }, (_, index) => `Message ${index}`)
      for (const body of said) yield* say(alice, room, body)
      const walk = Effect.fnUntraced(function* (from: string, dir: string) {
        const all: Array<Body> = []
        let place = from
        while (true) {
          const { body } = yield* alice.ask(
            "GET",
            `/rooms/${inPath(room)}/messages?from=${inPath(place)}&dir=${dir}&limit=7`
          )
          if (body.chunk.length === 0) return all
          assert.isAtMost(body.chunk.length, 7)
          all.push(...body.chunk)
          place = body.end
        }
      })
      const back = yield* walk("END", "b")
      const forth = yield* walk("START", "f")
      assert.deepStrictEqual(
        back.map(({ event_id }) => event_id),
        forth.map(({ event_id }) => event_id).toReversed()
      )
      assert.strictEqual(new Set(back.map(({ event_id }) => event_id)).size, back.length)
      assert.strictEqual(forth[0].type, "m.room.create")
      assert.deepStrictEqual(
        forth.filter(({ type }) => type === "m.room.message").map(({ content }) => content.body),
        said
      )
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=-1`), 400, "M_BAD_PAGINATION")
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?dir=sideways`), 400, "M_BAD_PAGINATION")
      refused(yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?from=nonsense`), 400, "M_BAD_PAGINATION")
    })
  )

  it.effect("START begins a newcomer's stream at the beginning, END at the present", () =>
    Effect.gen(function* () {
      const [alice] = (yield* people("alice")) as [Person]
      const room = yield* roomOf(alice)
      yield* say(alice, room, "In the beginning")
      const fromStart = yield* alice.ask("GET", "/events?from=START&timeout=0&limit=100")
      assert.include(
        fromStart.body.chunk.map(({ type }: Body) => type),
        "m.room.member"
      )
      const found = fromStart.body.chunk.find((event: Body) => event.content.body === "In the beginning")
      assert.strictEqual(found.room_id, room)
      for (const query of ["?from=END&timeout=0", "?timeout=0"]) {
        const { body } = yield* alice.ask("GET", `/events${query}`)
        assert.isFalse(body.chunk.some((event: Body) => event.type.startsWith("m.room.")))
        assert.isString(body.end)
      }
    })
  )

  it.effect("feedback is bundled with its message where it is asked for", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const message = yield* say(alice, room, "Did you get this?")
      const feedback = yield* bob.ask("POST", `/rooms/${inPath(room)}/send/m.room.message.feedback`, {
        type: "read",
        target_event_id: message
      })
      assert.strictEqual(feedback.status, 200)
      const plain = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=20`)
      const bundled = yield* alice.ask("GET", `/rooms/${inPath(room)}/messages?limit=20&feedback=true`)
      const types = ({ body }: Answer) => body.chunk.map(({ type }: Body) => type)
      assert.include(types(plain), "m.room.message.feedback")
      const found = bundled.body.chunk.find(({ event_id }: Body) => event_id === message)
      assert.include(JSON.stringify(found), feedback.body.event_id)
    })
  )

  it.effect("typing reaches the others in the room, and ends", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const from = yield* now(bob)
      const path = `/rooms/${inPath(room)}/typing/${inPath(alice.userId)}`
      done(yield* alice.ask("PUT", path, { typing: true, timeout: 60_000 }))
      const isTyping = (event: Body) => event.type === "m.typing" && event.room_id === room
      const began = yield* waitFor(pollOf(bob), from, isTyping)
      assert.deepStrictEqual(began.event.content.user_ids, [alice.userId])
      done(yield* alice.ask("PUT", path, { typing: false }))
      const ended = yield* waitFor(pollOf(bob), began.end, isTyping)
      assert.deepStrictEqual(ended.event.content.user_ids, [])
      refused(yield* bob.ask("PUT", path, { typing: true }), 403, "M_FORBIDDEN")
    })
  )

  it.effect("a redacted message loses its content, also for users who saw it", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const slip = yield* say(bob, room, "My password is swordfish")
      const from = yield* now(alice)
      refused(
        yield* bob.ask("POST", `/rooms/${inPath(room)}/redact/${inPath(yield* say(alice, room, "Mine"))}`, {}),
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

  it.effect("a kicked user may return where the join rules allow it, a banned user may not", () =>
    Effect.gen(function* () {
      const { ask } = yield* Stage
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
      done(yield* carol.ask("POST", `/rooms/${room}/leave`, {}))
      assert.strictEqual((yield* ask("GET", "/publicRooms")).status, 200)
    })
  )

  it.effect("a private room admits invited users, and shows nothing to others", () =>
    Effect.gen(function* () {
      const [alice, bob, eve] = (yield* people("alice", "bob", "eve")) as [Person, Person, Person]
      const { body } = yield* alice.ask("POST", "/createRoom", { visibility: "private", invite: [bob.userId] })
      const room = inPath(body.room_id)
      const secret = yield* say(alice, body.room_id, "Between us")
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

  it.effect("state is set and read, by type and key, and tells what it replaced", () =>
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

  it.effect("members are listed with their presence, and one room can be synced alone", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      yield* bob.ask("PUT", `/presence/${inPath(bob.userId)}/status`, { presence: "free_for_chat" })
      const { body: members } = yield* alice.ask("GET", `/rooms/${inPath(room)}/members`)
      const entry = members.chunk.find(({ state_key }: Body) => state_key === bob.userId)
      assert.deepInclude(entry.content, { membership: "join" })
      assert.include(JSON.stringify(entry.content), "free_for_chat")
      yield* say(alice, room, "One")
      yield* say(alice, room, "Two")
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
      const alias = `#ünïcödé${users}:green.test`
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

  it.effect("presence is visible to users who share a room or were accepted", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const status = `/presence/${inPath(bob.userId)}/status`
      const listOf = (person: Person) => `/presence/list/${inPath(person.userId)}`
      refused(yield* alice.ask("GET", status), 403, "M_FORBIDDEN")
      const from = yield* now(bob)
      done(yield* alice.ask("POST", listOf(alice), { invite: [bob.userId] }))
      const { body: asked } = yield* alice.ask("GET", listOf(alice))
      assert.deepInclude(asked[0], { user_id: bob.userId, accepted: false })
      yield* next(bob, from, (event) => JSON.stringify(event).includes(alice.userId))
      done(yield* bob.ask("POST", listOf(bob), { accept: [alice.userId] }))
      const fromHere = yield* now(alice)
      done(yield* bob.ask("PUT", status, { presence: "unavailable", status_msg: "At lunch" }))
      const seen = yield* next(
        alice,
        fromHere,
        ({ content, type }) => type === "m.presence" && content.status_msg === "At lunch"
      )
      assert.deepInclude(seen.content, { user_id: bob.userId, presence: "unavailable", state: "unavailable" })
      const { body: accepted } = yield* alice.ask("GET", `/presence_list/${inPath(alice.userId)}`)
      assert.deepInclude(accepted[0], { user_id: bob.userId, accepted: true, presence: "unavailable" })
      done(yield* alice.ask("POST", listOf(alice), { drop: [bob.userId] }))
      assert.deepStrictEqual((yield* alice.ask("GET", listOf(alice))).body, [])
      refused(yield* alice.ask("GET", listOf(bob)), 403, "M_FORBIDDEN")
      refused(yield* alice.ask("PUT", status, { presence: "offline" }), 403, "M_FORBIDDEN")
    })
  )

  it.effect("a profile shows each reader the visible fields, and changes reach the user too", () =>
    Effect.gen(function* () {
      const [alice, eve] = (yield* people("alice", "eve")) as [Person, Person]
      const path = `/profile/${inPath(alice.userId)}`
      const from = yield* now(alice)
      done(yield* alice.ask("PUT", `${path}/displayname`, { displayname: "Alice" }))
      yield* next(alice, from, ({ content, type }) => type === "m.presence" && content.displayname === "Alice")
      done(yield* alice.ask("PUT", `${path}/avatar_url`, { avatar_url: "https://green.test/alice.png" }))
      done(yield* alice.ask("PUT", `${path}/location`, { location: "London" }))
      done(yield* alice.ask("PUT", `${path}/phone`, { phone: "123", visibility: "private" }))
      assert.deepStrictEqual((yield* eve.ask("GET", path)).body, {
        displayname: "Alice",
        avatar_url: "https://green.test/alice.png",
        location: "London"
      })
      assert.strictEqual((yield* alice.ask("GET", `${path}/phone`)).body.phone, "123")
      refused(yield* eve.ask("GET", `${path}/phone`), 404, "M_NOT_FOUND")
      refused(yield* eve.ask("PUT", `${path}/displayname`, { displayname: "Eve was here" }), 403, "M_FORBIDDEN")
    })
  )

  it.effect("a name that changes is the name in every room", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const rooms = [yield* roomOf(alice, bob), yield* roomOf(bob, alice)]
      const from = yield* now(bob)
      done(yield* alice.ask("PUT", `/profile/${inPath(alice.userId)}/displayname`, { displayname: "Alicia" }))
      for (const room of rooms) {
        const seen = yield* next(
          bob,
          from,
          ({ content, room_id, type }) =>
            type === "m.room.member" && room_id === room && content.displayname === "Alicia"
        )
        assert.deepInclude(seen, { state_key: alice.userId, user_id: alice.userId })
      }
    })
  )

  it.effect("a long poll waits until something happens, or until its time is over", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const from = yield* now(bob)
      const waiting = yield* Effect.forkChild(next(bob, from, ({ content }) => content.body === "Wake up"))
      yield* say(alice, room, "Wake up")
      assert.strictEqual((yield* Fiber.join(waiting)).room_id, room)
      const { body } = yield* alice.ask("GET", "/events?from=END&timeout=1")
      assert.isArray(body.chunk)
    })
  )

  it.effect("a socket that comes back goes on where it was", () =>
    Effect.gen(function* () {
      const { gateway } = yield* Stage
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      for (const subprotocol of ["m.json", "m.msgpack"] as const) {
        const first = yield* RawSocket.open(gateway.url, { token: bob.token, subprotocol, from: yield* now(bob) })
        yield* say(alice, room, `${subprotocol} 1`)
        yield* first.event(({ content }) => content.body === `${subprotocol} 1`)
        yield* first.close
        yield* first.closed
        yield* say(alice, room, `${subprotocol} 2`)
        yield* say(alice, room, `${subprotocol} 3`)
        const second = yield* RawSocket.open(gateway.url, { token: bob.token, subprotocol, from: first.position() })
        const isMessage = ({ type }: Body) => type === "m.room.message"
        for (const number of [2, 3]) {
          assert.strictEqual((yield* second.event(isMessage)).content.body, `${subprotocol} ${number}`)
        }
      }
    })
  )

  it.effect("calls are events, and TURN credentials are given to users", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const room = yield* roomOf(alice, bob)
      const send = (type: string, content: unknown) => alice.ask("POST", `/rooms/${inPath(room)}/send/${type}`, content)
      const offer = { type: "offer", sdp: "v=0" }
      assert.strictEqual(
        (yield* send("m.call.invite", { call_id: "1", version: 0, lifetime: 60_000, offer })).status,
        200
      )
      refused(yield* send("m.call.invite", { call_id: "1" }), 400, "M_BAD_JSON")
      assert.strictEqual((yield* send("m.call.hangup", { call_id: "1", version: 0 })).status, 200)
      const { body } = yield* alice.ask("GET", "/voip/turnServer")
      assert.deepStrictEqual(body.uris, ["turn:turn.green.test"])
      assert.isString(body.password)
      assert.match(body.username, /^[0-9]+:@alice/)
    })
  )

  it.effect("the access token may travel in the header or in the query, and no content type is needed", () =>
    Effect.gen(function* () {
      const { ask } = yield* Stage
      const [alice] = (yield* people("alice")) as [Person]
      assert.strictEqual((yield* ask("GET", "/initialSync", { bearer: alice.token })).status, 200)
      const created = yield* ask("POST", "/createRoom", { bearer: alice.token, data: { name: "Plain" }, headers: {} })
      assert.strictEqual(created.status, 200)
      const empty = yield* ask("POST", "/createRoom", { bearer: alice.token })
      assert.strictEqual(empty.status, 200)
      refused(yield* ask("GET", "/initialSync"), 401, "M_MISSING_TOKEN")
      refused(yield* ask("GET", "/initialSync", { token: "nonsense" }), 401, "M_UNKNOWN_TOKEN")
      refused(yield* ask("POST", "/createRoom", { token: alice.token, data: "{" }), 400, "M_NOT_JSON")
      refused(yield* ask("GET", "/no/such/thing", { token: alice.token }), 404, "M_UNRECOGNIZED")
      refused(yield* ask("PATCH", "/initialSync", { token: alice.token }), 405, "M_UNRECOGNIZED")
    })
  )

  it.effect("power follows the power levels, and users cannot raise their own", () =>
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
