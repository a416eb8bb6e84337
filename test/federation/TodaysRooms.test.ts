import { assert, describe, it } from "@effect/vitest"
import { FederationCalls } from "@greenroom/actors/federation/FederationCalls"
import { PresetRooms } from "@greenroom/actors/room/PresetRooms"
import type { PublicRoomsRequest } from "@greenroom/actors/room/PublicRooms"
import { RoomFinder } from "@greenroom/actors/room/RoomFinder"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import { RoomSummaries } from "@greenroom/actors/room/RoomSummaries"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import { AccountData } from "@greenroom/actors/user/AccountData"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Option } from "effect"
import { homeServers, isMessage, message, readsIn, type TestServer, twoHomeServers } from "./support/HomeServers.ts"
import { HostileServer } from "./support/HostileServer.ts"

const isMembership =
  (userId: string, membership: string) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.room.member" && event.state_key === userId && event.content.membership === membership

const replacedBy = (event: StreamedEvent): unknown => ("prev_content" in event ? event.prev_content : undefined)

const send = (server: TestServer, session: Session, roomId: RoomId, text: string) =>
  server.run(Effect.flatMap(Rooms, (rooms) => rooms.send(session, roomId, "m.room.message", message(text))))

const setState = (server: TestServer, session: Session, roomId: RoomId, type: string, content: JsonObject) =>
  server.run(Effect.flatMap(Rooms, (rooms) => rooms.setState(session, roomId, type, "", content)))

const join = (server: TestServer, session: Session, roomId: RoomId, through: TestServer) =>
  server.run(Effect.flatMap(Rooms, (rooms) => rooms.join(session, roomId, {}, undefined, [through.serverName])))

const create = (server: TestServer, session: Session, version: string, visibility: "public" | "private" = "public") =>
  Effect.map(
    server.run(Effect.flatMap(Rooms, (rooms) => rooms.create(session, { room_version: version, visibility }))),
    ({ room_id }) => room_id
  )

/** Sends a federation request of blue to red. */
const asBlue = (blue: TestServer, red: TestServer, method: "GET" | "PUT" | "POST", uri: string, content?: JsonObject) =>
  blue.run(
    Effect.flatMap(FederationCalls, (calls) =>
      calls.call({
        destination: red.serverName,
        method,
        uri: `/_matrix/federation/${uri}`,
        ...(content === undefined ? {} : { content }),
        maxBytes: 1_000_000,
        isUrgent: true,
        read: (answer) => answer
      })
    )
  )

const tagOf = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
  Effect.match(effect, { onSuccess: () => "allowed", onFailure: ({ _tag }) => _tag })

describe("Rooms of versions 1 to 12 on two servers", () => {
  for (const version of ["1", "2", "3", "5", "6", "8", "10", "11", "12"]) {
    it.live(
      `version ${version}: invites, joins, messages in both directions and leaves are exchanged, and memberships have prev_content`,
      () =>
        Effect.gen(function* () {
          const [red, blue] = yield* twoHomeServers
          const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
          const room = yield* create(red, alice, version, "private")
          assert.strictEqual(yield* tagOf(join(blue, bob, room, red)), "M_FORBIDDEN")
          yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.setMembership(alice, room, "invite", bob.userId)))
          yield* join(blue, bob, room, red)
          const joined = isMembership(bob.userId, "join")
          for (const event of [yield* red.sees(alice, joined), yield* blue.sees(bob, joined)]) {
            assert.deepInclude(replacedBy(event), { membership: "invite" })
          }
          yield* send(red, alice, room, "hello")
          yield* blue.sees(bob, isMessage("hello"))
          yield* send(blue, bob, room, "hello yourself")
          yield* red.sees(alice, isMessage("hello yourself"))
          assert.deepStrictEqual(yield* readsIn(blue, bob, room), ["hello", "hello yourself"])
          yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.leave(bob, room)))
          const left = yield* red.sees(alice, isMembership(bob.userId, "leave"))
          assert.deepInclude(replacedBy(left), { membership: "join" })
        })
    )
  }

  it.live("a user who left a room comes back without naming a server, through those that were in it", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      // The ID of the room names no server.
      const room = yield* create(red, alice, "12")
      yield* join(blue, bob, room, red)
      yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.leave(bob, room)))
      yield* red.sees(alice, isMembership(bob.userId, "leave"))
      yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room, {})))
      yield* send(blue, bob, room, "back again")
      yield* red.sees(alice, isMessage("back again"))
    })
  )

  it.live("version 1 of `send_join` answers with a list of 200 and the state", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const guest = new HostileServer("guest.test", "today")
      yield* guest.listen(port)
      const [red] = (yield* homeServers(["red.test"], { others: { "guest.test": port } })) as [TestServer]
      const address = { serverName: red.serverName, federationPort: red.settings.port }
      const alice = yield* red.person("alice")
      const room = yield* create(red, alice, "10")
      const [join] = (yield* guest.join(address, room, "@bob:guest.test")).extremities as [Event]
      const path = `/v1/send_join/${encodeURIComponent(room)}/${encodeURIComponent(join.event_id)}`
      const { body } = yield* guest.ask(address, "PUT", path, guest.toPdu(join))
      assert.lengthOf(body, 2)
      assert.strictEqual(body[0], 200)
      assert.isNotEmpty(body[1].state)
    })
  )

  it.live("history with the visibility joined is hidden from users of another server who joined later", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob, carol] = [yield* red.person("alice"), yield* blue.person("bob"), yield* blue.person("carol")]
      const room = yield* create(red, alice, "10")
      yield* setState(red, alice, room, "m.room.history_visibility", { history_visibility: "joined" })
      yield* send(red, alice, room, "for nobody else")
      yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.setMembership(alice, room, "invite", bob.userId)))
      const { event_id } = yield* send(red, alice, room, "an invitation does not show this")
      yield* join(blue, bob, room, red)
      const { pdus } = yield* asBlue(blue, red, "GET", `v1/event/${encodeURIComponent(event_id)}`)
      assert.deepStrictEqual((pdus as ReadonlyArray<JsonObject>)[0]!.content, {})
      yield* send(red, alice, room, "for Bob")
      yield* blue.sees(bob, isMessage("for Bob"))
      yield* join(blue, carol, room, red)
      yield* red.sees(alice, isMembership(carol.userId, "join"))
      yield* send(red, alice, room, "for both")
      yield* blue.sees(carol, isMessage("for both"))
      const { chunk } = yield* blue.run(
        Effect.flatMap(RoomReader, (rooms) => rooms.messages(carol, room, { dir: "b", limit: 100 }))
      )
      const bodies = chunk.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : []))
      for (const read of [bodies, yield* readsIn(blue, carol, room)]) assert.deepStrictEqual(read, ["for both"])
      assert.deepStrictEqual(yield* readsIn(blue, bob, room), ["for Bob", "for both"])
    })
  )

  it.live("public rooms of the other server are searched and paged", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const alice = yield* red.person("alice")
      for (const name of ["Tea", "Coffee", "Tea and coffee"]) {
        yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.create(alice, { name, visibility: "public" })))
      }
      const names = (request: PublicRoomsRequest) =>
        Effect.map(
          blue.run(Effect.flatMap(RoomSummaries, (rooms) => rooms.publicRoomsOf(red.serverName, request))),
          ({ chunk, next_batch }) => ({ names: chunk.map(({ name }) => name), next_batch })
        )
      assert.sameMembers((yield* names({ search: "tea" })).names, ["Tea", "Tea and coffee"])
      const first = yield* names({ limit: 2 })
      const second = yield* names({ limit: 2, since: first.next_batch })
      assert.sameMembers([...first.names, ...second.names], ["Tea", "Coffee", "Tea and coffee"])
      yield* red.stop
      assert.strictEqual(yield* tagOf(names({ search: "gone" })), "M_NOT_FOUND")
    })
  )

  it.live("the hierarchy of a space has rooms of other servers that the user may see", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const make = (server: TestServer, session: Session, name: string, isSpace: boolean, isPrivate = false) =>
        Effect.map(
          server.run(
            Effect.flatMap(PresetRooms, (rooms) =>
              rooms.create(session, {
                name,
                preset: isPrivate ? "private_chat" : "public_chat",
                ...(isSpace ? { creationContent: { type: "m.space" } } : {})
              })
            )
          ),
          ({ room_id }) => room_id
        )
      const add = (server: TestServer, session: Session, parent: RoomId, child: RoomId, through: TestServer) =>
        server.run(
          Effect.flatMap(Rooms, (rooms) =>
            rooms.setState(session, parent, "m.space.child", child, { via: [through.serverName] })
          )
        )
      const root = yield* make(blue, bob, "root", true)
      const inner = yield* make(red, alice, "inner", true)
      const tea = yield* make(red, alice, "tea", false)
      const back = yield* make(blue, bob, "back", false)
      const secret = yield* make(red, alice, "secret", false, true)
      yield* add(blue, bob, root, inner, red)
      yield* add(blue, bob, root, secret, red)
      yield* add(red, alice, inner, tea, red)
      yield* add(red, alice, inner, back, blue)
      yield* add(red, alice, inner, root, blue)
      yield* add(red, alice, inner, secret, red)
      const told = yield* asBlue(blue, red, "GET", `v1/hierarchy/${encodeURIComponent(inner)}`)
      assert.deepStrictEqual(
        (told.children as ReadonlyArray<{ readonly room_id: RoomId }>).map(({ room_id }) => room_id),
        [tea]
      )
      assert.deepStrictEqual(told.inaccessible_children, [secret])
      const { rooms: shown } = yield* blue.run(
        Effect.flatMap(RoomSummaries, (rooms) => rooms.hierarchy(bob, root, { suggestedOnly: false }))
      )
      assert.strictEqual(shown[0]?.name, "root")
      assert.sameMembers(
        shown.map(({ name }) => name),
        ["root", "inner", "tea", "back"]
      )
      const summary = (room: RoomId) =>
        blue.run(Effect.flatMap(RoomSummaries, (rooms) => Effect.option(rooms.summary(bob, room, [red.serverName]))))
      const ofTea = Option.getOrThrow(yield* summary(tea))
      assert.deepInclude(ofTea, { room_id: tea, name: "tea", num_joined_members: 1, membership: "leave" })
      assert.notProperty(ofTea, "children_state")
      assert.isTrue(Option.isNone(yield* summary(secret)))
    })
  )

  it.live("an invited user sees a space of another server and its rooms before joining", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const mallory = yield* blue.person("mallory")
      const make = (name: string, creationContent: JsonObject) =>
        Effect.map(
          red.run(PresetRooms.use((rooms) => rooms.create(alice, { name, preset: "private_chat", creationContent }))),
          ({ room_id }) => room_id
        )
      const space = yield* make("space", { type: "m.space" })
      const room = yield* make("room", {})
      const via = { via: [red.serverName] }
      yield* red.run(Rooms.use((rooms) => rooms.setState(alice, space, "m.space.child", room, via)))
      const invite = (to: RoomId) => red.run(Rooms.use((rooms) => rooms.setMembership(alice, to, "invite", bob.userId)))
      const shownTo = (session: Session) =>
        Effect.match(
          blue.run(RoomSummaries.use((rooms) => rooms.hierarchy(session, space, { suggestedOnly: false }))),
          { onSuccess: ({ rooms }) => rooms.map(({ name }) => name), onFailure: ({ _tag }) => _tag }
        )
      yield* invite(space)
      yield* invite(room)
      assert.deepStrictEqual(yield* shownTo(bob), ["space", "room"])
      assert.strictEqual(yield* shownTo(mallory), "M_FORBIDDEN")
    })
  )

  it.live("only members of the allowed room can join a restricted one", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob, mallory] = [
        yield* red.person("alice"),
        yield* blue.person("bob"),
        yield* blue.person("mallory")
      ]
      const club = yield* create(red, alice, "12")
      const room = yield* create(red, alice, "12", "private")
      yield* setState(red, alice, room, "m.room.join_rules", {
        join_rule: "restricted",
        allow: [{ type: "m.room_membership", room_id: club }]
      })
      yield* join(blue, bob, club, red)
      yield* red.sees(alice, isMembership(bob.userId, "join"))
      const seenByBlue = tagOf(asBlue(blue, red, "GET", `v1/hierarchy/${encodeURIComponent(room)}`))
      assert.strictEqual(yield* seenByBlue, "allowed")
      const allow = [{ type: "m.room_membership", room_id: club }]
      yield* setState(red, alice, room, "m.room.join_rules", { join_rule: "invite", allow })
      assert.strictEqual(yield* seenByBlue, "RemoteRefused", "a private room has no allowed rooms")
      yield* setState(red, alice, room, "m.room.join_rules", { join_rule: "restricted", allow })
      yield* join(blue, bob, room, red)
      yield* send(blue, bob, room, "inside")
      yield* red.sees(alice, isMessage("inside"))
      assert.strictEqual(yield* tagOf(join(blue, mallory, room, red)), "M_FORBIDDEN")
    })
  )

  for (const version of ["11", "12"]) {
    it.live(
      `version ${version}: a repeated invite is one, and a retracted invite and a retracted knock end on both servers`,
      () =>
        Effect.gen(function* () {
          const [red, blue] = yield* twoHomeServers
          const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
          const room = yield* create(red, alice, version, "private")
          const member = (action: "invite" | "kick") =>
            red.run(Effect.flatMap(Rooms, (rooms) => rooms.setMembership(alice, room, action, bob.userId)))
          const permit = (content: JsonObject) =>
            blue.run(
              Effect.flatMap(AccountData, (data) =>
                data.set(bob, bob.userId, undefined, "m.invite_permission_config", content)
              )
            )
          yield* permit({ default_action: "block" })
          assert.strictEqual(yield* tagOf(member("invite")), "M_INVITE_BLOCKED")
          yield* permit({})
          const inBlue = (membership: string) => blue.sees(bob, isMembership(bob.userId, membership))
          const invite = Effect.flatMap(Rooms, (rooms) =>
            rooms.setState(alice, room, "m.room.member", bob.userId, { membership: "invite" }, "an invitation")
          )
          assert.deepStrictEqual(yield* red.run(invite), yield* red.run(invite))
          yield* inBlue("invite")
          yield* member("kick")
          yield* inBlue("leave")
          assert.strictEqual(yield* tagOf(join(blue, bob, room, red)), "M_FORBIDDEN")
          yield* setState(red, alice, room, "m.room.join_rules", { join_rule: "knock" })
          const knock = Effect.flatMap(Rooms, (rooms) =>
            rooms.setMembership(bob, room, "knock", bob.userId, undefined, undefined, [red.serverName])
          )
          yield* blue.run(knock)
          yield* red.sees(alice, isMembership(bob.userId, "knock"))
          yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.leave(bob, room)))
          yield* red.sees(alice, (event) => {
            const isLeave = isMembership(bob.userId, "leave")(event)
            return isLeave && "user_id" in event && event.user_id === bob.userId
          })
        })
    )
  }

  it.live("timestamp_to_event finds events from before the join on the other server", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const room = yield* create(red, alice, "12")
      const sent: Array<{ readonly event_id: string }> = []
      for (let index = 0; index < 230; index++) sent.push(yield* send(red, alice, room, `message ${index}`))
      const near = (server: TestServer, session: Session, ts: number, direction: "f" | "b") =>
        server.run(Effect.flatMap(RoomFinder, (finder) => finder.eventAt(session, room, ts, direction)))
      const first = yield* near(red, alice, 0, "f")
      yield* join(blue, bob, room, red)
      // Other events may have the same timestamp.
      const early = yield* red.run(
        Effect.flatMap(RoomReader, (rooms) => rooms.event(alice, room, sent[60]!.event_id as EventId))
      )
      for (const direction of ["f", "b"] as const) {
        assert.deepStrictEqual(
          yield* near(blue, bob, early.origin_server_ts, direction),
          yield* near(red, alice, early.origin_server_ts, direction)
        )
      }
      assert.deepStrictEqual(yield* near(blue, bob, 0, "f"), first)
      assert.strictEqual(yield* tagOf(near(blue, bob, 1, "b")), "M_NOT_FOUND")
    })
  )

  it.live("a server that m.room.server_acl denies can neither read the room nor send to it", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const room = yield* create(red, alice, "11")
      yield* join(blue, bob, room, red)
      yield* red.sees(alice, isMembership(bob.userId, "join"))
      yield* setState(red, alice, room, "m.room.server_acl", { allow: ["*"], deny: ["blue.*"] })
      yield* blue.sees(bob, ({ type }) => type === "m.room.server_acl")
      const { event_id } = yield* send(blue, bob, room, "kept out")
      const path = `v1/event_auth/${encodeURIComponent(room)}/${encodeURIComponent(event_id)}`
      assert.strictEqual(yield* tagOf(asBlue(blue, red, "GET", path)), "RemoteRefused")
      assert.strictEqual(
        yield* tagOf(asBlue(blue, red, "GET", `v1/event/${encodeURIComponent(event_id)}`)),
        "RemoteRefused"
      )
      const joined = yield* red.sees(alice, isMembership(bob.userId, "join"))
      const known = "event_id" in joined ? String(joined.event_id) : ""
      const [inRoom, at] = [encodeURIComponent(room), encodeURIComponent(known)]
      const questions = [
        `state/${inRoom}?event_id=${at}`,
        `state_ids/${inRoom}?event_id=${at}`,
        `event_auth/${inRoom}/${at}`
      ]
      for (const question of [...questions, `backfill/${inRoom}?v=${at}&limit=10`]) {
        assert.include(yield* Effect.flip(asBlue(blue, red, "GET", `v1/${question}`)), { errcode: "M_FORBIDDEN" })
      }
      const missing = { earliest_events: [], latest_events: [known], limit: 10 }
      assert.include(yield* Effect.flip(asBlue(blue, red, "POST", `v1/get_missing_events/${inRoom}`, missing)), {
        errcode: "M_FORBIDDEN"
      })
      yield* send(red, alice, room, "inside")
      assert.deepStrictEqual(yield* readsIn(red, alice, room), ["inside"])
      // The same without users in the room.
      yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.setMembership(alice, room, "kick", bob.userId)))
      assert.include(yield* Effect.flip(asBlue(blue, red, "GET", `v1/${questions[0]}`)), { errcode: "M_FORBIDDEN" })
    })
  )

  it.live("the requests of a dialect are refused for rooms of the other", () =>
    Effect.gen(function* () {
      const [red, blue] = yield* twoHomeServers
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const [todays, drafts] = [yield* create(red, alice, "10"), yield* create(red, alice, "1-draft")]
      yield* join(blue, bob, todays, red)
      yield* join(blue, bob, drafts, red)
      const room = (id: RoomId) => encodeURIComponent(id)
      // The path of the draft, which names no event, below today's prefix.
      assert.strictEqual(yield* tagOf(asBlue(blue, red, "GET", `v1/state/${room(todays)}`)), "RemoteRefused")
      assert.strictEqual(yield* tagOf(asBlue(blue, red, "GET", `v1/state/${room(drafts)}`)), "allowed")
      const missing = { earliest_events: [], latest_events: [], limit: 10 }
      const ask = (id: RoomId) => tagOf(asBlue(blue, red, "POST", `v1/get_missing_events/${room(id)}`, missing))
      assert.strictEqual(yield* ask(todays), "allowed")
      assert.strictEqual(yield* ask(drafts), "RemoteRefused")
      const makeJoin = asBlue(blue, red, "GET", `v1/make_join/${room(todays)}/${encodeURIComponent(bob.userId)}?ver=9`)
      assert.include(yield* Effect.flip(makeJoin), { errcode: "M_INCOMPATIBLE_ROOM_VERSION" })
    })
  )
})
