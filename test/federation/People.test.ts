import { assert, describe, it } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Federation } from "@greenroom/actors/federation/Federation"
import { Presences } from "@greenroom/actors/presence/Presences"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import { Users } from "@greenroom/actors/user/Users"
import type { RoomAlias, UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { isMessage, type TestServer } from "./support/HomeServers.ts"
import { scene } from "./support/Scene.ts"

const types =
  (...userIds: ReadonlyArray<UserId>) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.typing" &&
    JSON.stringify((event.content as { user_ids?: Json }).user_ids) === JSON.stringify(userIds)

const isPresence =
  (userId: UserId, state: string) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.presence" && event.content.user_id === userId && event.content.state === state

/** Gives blue a transaction of red with these EDUs. */
const edusOfRed = (blue: TestServer, id: string, edus: ReadonlyArray<Json>) =>
  blue.run(
    Effect.flatMap(Federation, (federation) =>
      federation.receiveTransaction("red.test" as never, {
        transaction_id: id,
        origin: "red.test" as never,
        destination: blue.serverName,
        ts: 0,
        prev_ids: [],
        pdus: [],
        edus
      })
    )
  )

const typing = (roomId: string, userId: string) => ({
  edu_type: "m.typing",
  content: { room_id: roomId, user_id: userId, typing: true }
})

describe("Users of several servers", () => {
  it.live("typing notifications of both servers are combined on each", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red, room_id } = yield* scene
      const setTyping = (server: TestServer, session: typeof alice, isTyping: boolean) =>
        server.run(
          Effect.flatMap(Rooms, (rooms) => rooms.setTyping(session, room_id, session.userId, isTyping, 60_000))
        )
      yield* setTyping(red, alice, true)
      yield* blue.sees(bob, types(alice.userId))
      yield* setTyping(blue, bob, true)
      yield* blue.sees(bob, types(alice.userId, bob.userId))
      yield* red.sees(alice, types(alice.userId, bob.userId))
      yield* setTyping(red, alice, false)
      yield* blue.sees(bob, types(bob.userId))
    })
  )

  it.live("an EDU about a user of another server, or in a room without its user, has no effect", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red, room_id, send } = yield* scene
      const carol = yield* blue.person("carol")
      const elsewhere = yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.create(carol, {})))
      yield* edusOfRed(blue, "forged", [
        typing(room_id, bob.userId),
        typing(room_id, "@mallory:red.test"),
        typing(elsewhere.room_id, alice.userId),
        typing("!nowhere:blue.test", alice.userId),
        { edu_type: "m.presence", content: { push: [{ user_id: bob.userId, state: "unavailable" }] } },
        { edu_type: "m.presence", content: { poll: [carol.userId] } },
        { edu_type: "m.presence_accept", content: { observed_user: carol.userId, observer_user: bob.userId } },
        { edu_type: "m.unheard_of", content: {} },
        "no EDU at all",
        typing(room_id, alice.userId)
      ])
      const seen = yield* blue.sees(bob, (event) => event.type === "m.typing")
      assert.isTrue(types(alice.userId)(seen))
      const refused = yield* Effect.flip(
        blue.run(Effect.flatMap(Federation, (federation) => federation.queryPresence(red.serverName, carol.userId)))
      )
      assert.strictEqual(refused._tag, "M_FORBIDDEN")
      yield* send("done")
      yield* blue.sees(bob, isMessage("done"))
    })
  )

  it.live(
    "users who share a room with a user of another server see their presence, also that from before a restart",
    () =>
      Effect.gen(function* () {
        const { alice, blue, bob, red, room_id } = yield* scene
        yield* red.run(
          Effect.flatMap(Presences, (presences) => presences.set(alice, alice.userId, "unavailable", "tea"))
        )
        const seen = yield* blue.sees(bob, isPresence(alice.userId, "unavailable"))
        assert.strictEqual((seen.content as { status_msg?: string }).status_msg, "tea")
        yield* blue.stop
        yield* blue.start
        const asked = yield* blue.run(Effect.flatMap(Presences, (presences) => presences.get(bob, alice.userId)))
        assert.deepStrictEqual([asked.state, asked.status_msg], ["unavailable", "tea"])
        yield* red.stop
        yield* red.start
        yield* blue.run(Effect.flatMap(Presences, (presences) => presences.set(bob, bob.userId, "free_for_chat")))
        yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.members(alice, room_id)))
        yield* red.sees(alice, isPresence(bob.userId, "free_for_chat"))
      })
  )

  it.live("the presence of a user of another server has their current display name", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const rename = (name: string) =>
        red.run(Effect.flatMap(Users, (users) => users.setProfileField(alice, alice.userId, "displayname", name)))
      const isNamed = (name: string) => (event: StreamedEvent) =>
        isPresence(alice.userId, "unavailable")(event) &&
        (event.content as { displayname?: string }).displayname === name
      yield* rename("Alice")
      yield* red.run(Effect.flatMap(Presences, (presences) => presences.set(alice, alice.userId, "unavailable")))
      yield* blue.sees(bob, isNamed("Alice"))
      yield* rename("Alice L.")
      yield* blue.sees(bob, isNamed("Alice L."))
      const asked = yield* blue.run(Effect.flatMap(Presences, (presences) => presences.get(bob, alice.userId)))
      assert.strictEqual(asked.displayname, "Alice L.")
    })
  )

  it.live("the presence of a user who joins from another server is shown", () =>
    Effect.gen(function* () {
      const { alice, blue, red, room_id } = yield* scene
      const carol = yield* blue.person("carol")
      yield* blue.run(Effect.flatMap(Presences, (presences) => presences.set(carol, carol.userId, "free_for_chat")))
      yield* blue.run(Effect.flatMap(Rooms, (rooms) => rooms.join(carol, room_id)))
      yield* red.sees(alice, isPresence(carol.userId, "free_for_chat"))
    })
  )

  it.live("a user who is invited to a presence list from another server answers, and is seen", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const carol = yield* blue.person("carol")
      const inviteAlice = (session: typeof bob) =>
        blue.run(
          Effect.flatMap(Users, (users) =>
            users.updatePresenceList(session, session.userId, { invite: [alice.userId] })
          )
        )
      const answer = (observer: UserId, accept: boolean) =>
        red.run(Effect.flatMap(Users, (users) => users.answerPresenceInvite(alice, observer, accept)))
      const isAsked = (observer: UserId) => (event: StreamedEvent) =>
        (event.type as string) === "m.presence_invite" &&
        (event.content as { observer_user?: string }).observer_user === observer
      yield* inviteAlice(carol)
      yield* red.sees(alice, isAsked(carol.userId))
      yield* answer(carol.userId, true)
      yield* red.run(Effect.flatMap(Presences, (presences) => presences.set(alice, alice.userId, "online")))
      yield* blue.sees(carol, isPresence(alice.userId, "online"))
      const list = yield* blue.run(Effect.flatMap(Users, (users) => users.presenceList(carol, carol.userId)))
      assert.deepStrictEqual(
        list.map(({ accepted, state, user_id }) => [user_id, accepted, state]),
        [[alice.userId, true, "online"]]
      )
      // Invitations are stored for active users, who have at most a thousand of them.
      const gone = yield* blue.person("gone")
      yield* blue.run(Accounts.use((accounts) => accounts.deactivate(gone.userId)))
      const inSql = <A>(query: (sql: SqlClient.SqlClient) => Effect.Effect<A, unknown>) =>
        blue.run(Effect.orDie(SqlClient.SqlClient.use(query)))
      yield* inSql(
        (sql) => sql`
          INSERT INTO presence_lists (observer, observed, accepted)
          SELECT '@' || number || ':far.test', ${bob.userId}, false FROM generate_series(1, 999) AS number`
      )
      const invite = (observer_user: string, observed_user: string) => ({
        edu_type: "m.presence_invite",
        content: { observer_user, observed_user }
      })
      yield* edusOfRed(blue, "invitations", [
        invite("@first:red.test", bob.userId),
        invite("@second:red.test", bob.userId),
        invite("@first:red.test", gone.userId)
      ])
      const stored = yield* inSql(
        (sql) => sql`SELECT observer, observed FROM presence_lists WHERE observer LIKE '%:red.test'`
      )
      assert.deepStrictEqual(stored, [{ observer: "@first:red.test", observed: bob.userId }])
    })
  )

  it.live("a profile shows public fields on other servers, and the rest to users who share a room", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const carol = yield* blue.person("carol")
      yield* red.run(
        Effect.gen(function* () {
          const users = yield* Users
          yield* users.setProfileField(alice, alice.userId, "displayname", "Alice")
          yield* users.setProfileField(alice, alice.userId, "email", "alice@red.test", "rooms")
          yield* users.setProfileField(alice, alice.userId, "phone", "555", "contacts")
          yield* users.setProfileField(alice, alice.userId, "bio", "none", "private")
        })
      )
      const profile = (session: typeof bob) =>
        blue.run(Effect.flatMap(Users, (users) => users.profile(session, alice.userId)))
      assert.deepStrictEqual(yield* profile(bob), { displayname: "Alice", email: "alice@red.test" })
      assert.deepStrictEqual(yield* profile(carol), { displayname: "Alice" })
      const field = yield* blue.run(Effect.flatMap(Users, (users) => users.profileField(bob, alice.userId, "email")))
      assert.deepStrictEqual(field, { email: "alice@red.test" })
      const missing = yield* Effect.flip(
        blue.run(Effect.flatMap(Users, (users) => users.profile(bob, "@nobody:red.test" as UserId)))
      )
      assert.strictEqual(missing._tag, "M_NOT_FOUND")
    })
  )

  it.live("an alias of another server that does not exist is not found", () =>
    Effect.gen(function* () {
      const { blue } = yield* scene
      const resolve = (alias: string) =>
        blue.run(Effect.flatMap(Rooms, (rooms) => rooms.resolveAlias(alias as RoomAlias)))
      const { servers } = yield* resolve("#lobby:red.test")
      assert.include([...servers] as Array<string>, "red.test")
      assert.strictEqual((yield* Effect.flip(resolve("#attic:red.test")))._tag, "M_NOT_FOUND")
      assert.strictEqual((yield* Effect.flip(resolve("#attic:127.0.0.1:1")))._tag, "M_NOT_FOUND")
    })
  )
})
