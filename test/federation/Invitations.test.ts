/** What refuses invitations that other servers send to users of this one. */
import { assert, describe, it } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { PresetRooms } from "@greenroom/actors/room/PresetRooms"
import { RoomFinder } from "@greenroom/actors/room/RoomFinder"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { Bans } from "@greenroom/actors/runtime/Bans"
import type { Session } from "@greenroom/actors/runtime/Session"
import { Users } from "@greenroom/actors/user/Users"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { homeServers, type TestServer } from "./support/HomeServers.ts"

const makeRoom = (server: TestServer, session: Session) =>
  Effect.map(
    server.run(Rooms.use((rooms) => rooms.create(session, { room_version: "11", visibility: "private" }))),
    ({ room_id }) => room_id
  )

/** The error of an invitation; undefined if it was sent. */
const refusal = (server: TestServer, session: Session, roomId: RoomId, invited: UserId) =>
  Effect.match(server.run(Rooms.use((rooms) => rooms.setMembership(session, roomId, "invite", invited))), {
    onSuccess: () => undefined,
    onFailure: ({ error }) => error
  })

describe("Invitations of other servers", () => {
  it.live("are refused from banned users, to blocked rooms and for deactivated users", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"])) as [TestServer, TestServer]
      const [alice, bob, gone] = [yield* red.person("alice"), yield* blue.person("bob"), yield* blue.person("gone")]
      const [room, blocked] = [yield* makeRoom(red, alice), yield* makeRoom(red, alice)]
      const ban = { kind: "user", value: alice.userId, reason: "spam", bannedBy: bob.userId } as const
      yield* blue.run(Bans.use((bans) => bans.add(ban)))
      assert.include(yield* refusal(red, alice, room, bob.userId), "banned")
      yield* blue.run(Bans.use((bans) => bans.lift("user", alice.userId)))
      assert.isUndefined(yield* refusal(red, alice, room, bob.userId))
      yield* blue.run(
        SqlClient.SqlClient.use(
          (sql) =>
            sql`INSERT INTO blocked_rooms (room_id, blocked_by, blocked_at) VALUES (${blocked}, ${bob.userId}, 1)`
        )
      )
      assert.include(yield* refusal(red, alice, blocked, bob.userId), "blocked")
      yield* blue.run(Accounts.use((accounts) => accounts.deactivate(gone.userId)))
      assert.include(yield* refusal(red, alice, room, gone.userId), "There is no user")
    }).pipe(Effect.scoped)
  )

  it.live("of one server are a tenth of what a user may have at most", () =>
    Effect.gen(function* () {
      const options = { "blue.test": { limits: { invitations: 20 } } }
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"], { options })) as [TestServer, TestServer]
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const invite = Effect.flatMap(makeRoom(red, alice), (room) => refusal(red, alice, room, bob.userId))
      assert.deepStrictEqual([yield* invite, yield* invite], [undefined, undefined])
      assert.include(yield* invite, "2 pending invitations from red.test")
    }).pipe(Effect.scoped)
  )

  it.live("can be rejected and forgotten while the server of the inviter is away", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"])) as [TestServer, TestServer]
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const room = yield* makeRoom(red, alice)
      assert.isUndefined(yield* refusal(red, alice, room, bob.userId))
      const forget = Effect.match(blue.run(RoomFinder.use((finder) => finder.forget(bob, room))), {
        onSuccess: () => undefined,
        onFailure: ({ _tag }) => _tag
      })
      assert.strictEqual(yield* forget, "M_UNKNOWN")
      yield* red.stop
      yield* blue.run(Rooms.use((rooms) => rooms.leave(bob, room)))
      assert.isUndefined(yield* forget)
      assert.isUndefined(yield* forget)
    }).pipe(Effect.scoped)
  )

  it.live("show the names of the invited to the members before they join, also of another server", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"])) as [TestServer, TestServer]
      const [alice, carl, bob] = [yield* red.person("alice"), yield* red.person("carl"), yield* blue.person("bob")]
      const rename = (server: TestServer, session: Session, name: string) =>
        server.run(Users.use((users) => users.setProfileField(session, session.userId, "displayname", name)))
      yield* rename(red, carl, "Carl")
      yield* rename(blue, bob, "Bob")
      const nameIn = (room: RoomId, { userId }: Session) =>
        Effect.map(
          red.run(RoomReader.use((rooms) => rooms.stateEvent(alice, room, "m.room.member", userId))),
          ({ content }) => content
        )
      const create = PresetRooms.use((rooms) =>
        rooms.create(alice, { preset: "trusted_private_chat", invite: [bob.userId, carl.userId], isDirect: true })
      )
      const { room_id: talk } = yield* red.run(create)
      assert.deepInclude(yield* nameIn(talk, bob), { membership: "invite", displayname: "Bob", is_direct: true })
      assert.deepInclude(yield* nameIn(talk, carl), { membership: "invite", displayname: "Carl", is_direct: true })
      const room = yield* makeRoom(red, alice)
      assert.isUndefined(yield* refusal(red, alice, room, bob.userId))
      assert.deepInclude(yield* nameIn(room, bob), { membership: "invite", displayname: "Bob" })
    }).pipe(Effect.scoped)
  )

  it.live("take no name over that is too long for a profile", () =>
    Effect.gen(function* () {
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"])) as [TestServer, TestServer]
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const name = "b".repeat(257)
      yield* blue.run(Users.use((users) => users.setProfileField(bob, bob.userId, "displayname", name)))
      const room = yield* makeRoom(red, alice)
      assert.isUndefined(yield* refusal(red, alice, room, bob.userId))
      const read = RoomReader.use((rooms) => rooms.stateEvent(alice, room, "m.room.member", bob.userId))
      assert.deepStrictEqual((yield* red.run(read)).content, { membership: "invite" })
    }).pipe(Effect.scoped)
  )
})
