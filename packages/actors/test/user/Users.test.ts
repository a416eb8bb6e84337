import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import * as HomeServer from "../../src/HomeServer.ts"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import type { StreamedEvent } from "../../src/sync/EventStream.ts"
import { Events } from "../../src/sync/Events.ts"
import { Users } from "../../src/user/Users.ts"
import { errcodeOf, layer as homeServer, person, serverName } from "../TestHomeServer.ts"

/** Follows the user's event stream until what is looked for has come, and gives it. */
const awaitEvents = Effect.fnUntraced(function* (
  session: Session,
  from: string,
  found: (events: ReadonlyArray<StreamedEvent>) => boolean
) {
  const events = yield* Events
  const seen: Array<StreamedEvent> = []
  let token = from
  while (!found(seen)) {
    const chunk = yield* events.poll(session, { from: token, timeout: 30_000 })
    seen.push(...(JSON.parse(chunk.json) as ReadonlyArray<StreamedEvent>))
    token = chunk.end
  }
  return seen
})

const now = (session: Session) =>
  Effect.flatMap(Events, (events) => Effect.map(events.poll(session, { timeout: 0 }), ({ end }) => end))

layer(homeServer, { excludeTestServices: true })("Users", (it) => {
  it.effect("a changed display name reaches every room of the user, and the observers of the user's presence", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const rooms = yield* Rooms
      const alice = yield* person("alice")
      const bob = yield* person("bob")
      const both = yield* Effect.forEach([1, 2], () => rooms.create(alice, { visibility: "public" }))
      for (const { room_id } of both) yield* rooms.join(bob, room_id)
      const start = yield* now(bob)
      yield* users.setProfileField(alice, alice.userId, "displayname", "Alice")
      const memberships = (events: ReadonlyArray<StreamedEvent>) =>
        events.filter((event) => event.type === "m.room.member" && event.content.displayname === "Alice")
      const presences = (events: ReadonlyArray<StreamedEvent>) =>
        events.filter((event) => event.type === "m.presence" && event.content.displayname === "Alice")
      const seen = yield* awaitEvents(
        bob,
        start,
        (events) => memberships(events).length === 2 && presences(events).length > 0
      )
      assert.sameMembers(
        memberships(seen).map((event) => "room_id" in event && event.room_id),
        both.map(({ room_id }) => room_id)
      )
      const state = yield* rooms.getState(bob, both[0]!.room_id, "m.room.member", alice.userId)
      assert.deepStrictEqual(state, { membership: "join", displayname: "Alice" })
    })
  )

  it.effect("everybody sees public fields, others according to their visibility", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const rooms = yield* Rooms
      const carol = yield* person("carol")
      const friend = yield* person("carols-friend")
      const roommate = yield* person("carols-roommate")
      const stranger = yield* person("carols-stranger")
      const { room_id } = yield* rooms.create(carol, { visibility: "public" })
      yield* rooms.join(roommate, room_id)
      yield* users.updatePresenceList(friend, friend.userId, { invite: [carol.userId] })
      yield* users.answerPresenceInvite(carol, friend.userId, true)
      const set = (field: string, value: string, visibility?: "public" | "rooms" | "contacts" | "private") =>
        users.setProfileField(carol, carol.userId, field, value, visibility)
      yield* set("displayname", "Carol", "private")
      yield* set("url", "https://carol.example")
      yield* set("location", "London", "rooms")
      yield* set("phone", "+44", "contacts")
      yield* set("org.example.diary", "private", "private")
      const fieldsOf = (viewer: Session) =>
        Effect.map(users.profile(viewer, carol.userId), (profile) => Object.keys(profile))
      assert.sameMembers([...(yield* fieldsOf(stranger))], ["displayname", "url"])
      assert.sameMembers([...(yield* fieldsOf(roommate))], ["displayname", "url", "location"])
      assert.sameMembers([...(yield* fieldsOf(friend))], ["displayname", "url", "phone"])
      assert.strictEqual((yield* fieldsOf(carol)).length, 5)
      assert.deepStrictEqual(yield* users.profileField(roommate, carol.userId, "location"), { location: "London" })
      assert.strictEqual(yield* errcodeOf(users.profileField(stranger, carol.userId, "location")), "M_NOT_FOUND")
      yield* users.setProfileField(carol, carol.userId, "url", null)
      assert.strictEqual(yield* errcodeOf(users.profileField(carol, carol.userId, "url")), "M_NOT_FOUND")
    })
  )

  it.effect("refuses profile fields that are malformed, too long or another user's", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const dave = yield* person("dave")
      const refused = (field: string, value: never, userId: UserId = dave.userId) =>
        errcodeOf(users.setProfileField(dave, userId, field, value))
      assert.strictEqual(yield* refused("displayname", 5 as never), "M_BAD_JSON")
      assert.strictEqual(yield* refused("displayname", "\ud800" as never), "M_BAD_JSON")
      assert.strictEqual(yield* refused("displayname", "x".repeat(5_000) as never), "M_TOO_LARGE")
      assert.strictEqual(yield* refused("favourite", "tea" as never), "M_BAD_JSON")
      assert.strictEqual(yield* refused("bio", "x".repeat(20_000) as never), "M_TOO_LARGE")
      assert.strictEqual(yield* refused("bio", "hi" as never, "@alice:green.test" as UserId), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(users.profile(dave, "@nobody:green.test" as UserId)), "M_NOT_FOUND")
      assert.strictEqual(yield* errcodeOf(users.profile(dave, "@dave:elsewhere.test" as UserId)), "M_NOT_FOUND")
      yield* users.setProfileField(dave, dave.userId, "displayname", "nul \0 \u{1F600}")
      assert.deepStrictEqual(yield* users.profile(dave, dave.userId), { displayname: "nul \0 \u{1F600}" })
    })
  )

  it.effect("an invited user of a presence list is asked, and seen after accepting", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const presences = yield* Presences
      const stream = yield* EphemeralStream
      const erin = yield* person("erin")
      const frank = yield* person("frank")
      const before = yield* stream.position
      yield* users.updatePresenceList(erin, erin.userId, { invite: [frank.userId] })
      const [asked] = (yield* stream.since(before)).updates.filter((update) => update._tag === "presenceInvite")
      assert.deepStrictEqual([asked!.userId, asked!.observer], [frank.userId, erin.userId])
      assert.deepStrictEqual(yield* users.presenceObservers(frank, frank.userId), [
        { user_id: erin.userId, accepted: false }
      ])
      const pending = { user_id: frank.userId, state: "offline", presence: "offline", accepted: false }
      assert.deepStrictEqual(yield* users.presenceList(erin, erin.userId), [pending])
      assert.strictEqual(yield* errcodeOf(presences.get(erin, frank.userId)), "M_FORBIDDEN")
      const start = yield* now(erin)
      yield* presences.set(frank, frank.userId, "free_for_chat", "hello")
      yield* users.answerPresenceInvite(frank, erin.userId, true)
      yield* awaitEvents(erin, start, (events) =>
        events.some((event) => event.type === "m.presence" && event.content.status_msg === "hello")
      )
      const [entry] = yield* users.presenceList(erin, erin.userId)
      assert.deepStrictEqual([entry!.accepted, entry!.state], [true, "free_for_chat"])
      assert.strictEqual((yield* presences.get(erin, frank.userId)).status_msg, "hello")
      // Permission goes one way.
      assert.strictEqual(yield* errcodeOf(presences.get(frank, erin.userId)), "M_FORBIDDEN")
      yield* users.answerPresenceInvite(frank, erin.userId, false)
      assert.strictEqual(yield* errcodeOf(presences.get(erin, frank.userId)), "M_FORBIDDEN")
      assert.deepStrictEqual(yield* users.presenceList(erin, erin.userId), [])
    })
  )

  it.effect("two users who invite each other see each other", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const presences = yield* Presences
      const grace = yield* person("grace")
      const heidi = yield* person("heidi")
      yield* users.updatePresenceList(grace, grace.userId, { invite: [heidi.userId] })
      yield* users.updatePresenceList(heidi, heidi.userId, { invite: [grace.userId] })
      assert.strictEqual((yield* presences.get(grace, heidi.userId)).user_id, heidi.userId)
      assert.strictEqual((yield* presences.get(heidi, grace.userId)).user_id, grace.userId)
      yield* users.updatePresenceList(grace, grace.userId, { drop: [heidi.userId] })
      assert.strictEqual(yield* errcodeOf(presences.get(grace, heidi.userId)), "M_FORBIDDEN")
      assert.strictEqual((yield* presences.get(heidi, grace.userId)).user_id, grace.userId)
    })
  )

  it.effect("after the permission is withdrawn observers have to ask again, also those on the user's own list", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const presences = yield* Presences
      const olivia = yield* person("olivia")
      const peter = yield* person("peter")
      const invite = (from: Session, to: Session) =>
        users.updatePresenceList(from, from.userId, { invite: [to.userId] })
      yield* invite(olivia, peter)
      yield* invite(peter, olivia)
      yield* users.answerPresenceInvite(olivia, peter.userId, false)
      assert.strictEqual(yield* errcodeOf(presences.get(peter, olivia.userId)), "M_FORBIDDEN")
      yield* invite(peter, olivia)
      assert.strictEqual(yield* errcodeOf(presences.get(peter, olivia.userId)), "M_FORBIDDEN")
      const observers = users.presenceObservers(olivia, olivia.userId)
      assert.deepStrictEqual(yield* observers, [{ user_id: peter.userId, accepted: false }])
      yield* users.answerPresenceInvite(olivia, peter.userId, true)
      assert.deepStrictEqual(yield* observers, [{ user_id: peter.userId, accepted: true }])
      assert.strictEqual((yield* presences.get(peter, olivia.userId)).user_id, olivia.userId)
      assert.strictEqual(yield* errcodeOf(users.presenceObservers(peter, olivia.userId)), "M_FORBIDDEN")
    })
  )

  it.effect("users cannot change or read another user's list, or answer an observer who has not asked", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const ivan = yield* person("ivan")
      const judy = yield* person("judy")
      const change = (invite: ReadonlyArray<string>) =>
        errcodeOf(users.updatePresenceList(ivan, ivan.userId, { invite: invite as ReadonlyArray<UserId> }))
      assert.strictEqual(yield* errcodeOf(users.presenceList(ivan, judy.userId)), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(users.updatePresenceList(ivan, judy.userId, {})), "M_FORBIDDEN")
      assert.strictEqual(yield* errcodeOf(users.answerPresenceInvite(ivan, judy.userId, true)), "M_NOT_FOUND")
      assert.strictEqual(yield* change(["@nobody:green.test"]), "M_NOT_FOUND")
      assert.strictEqual(yield* change([ivan.userId]), "M_BAD_JSON")
      assert.deepStrictEqual(yield* users.presenceList(ivan, ivan.userId), [])
    })
  )
})

const options = { serverName, dataDir: "unused: the database is given" }

layer(TestDatabase.layer, { excludeTestServices: true })("Users, on servers of their own", (it) => {
  it.effect("rooms receive a profile that changed just before", () =>
    Effect.gen(function* () {
      const first = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const profiles = yield* ProfileStore
        const kim = yield* person("kim")
        const { room_id } = yield* rooms.create(kim, {})
        const start = yield* now(kim)
        // The commit of the actor before it answers; the process ends before it updates the room.
        yield* profiles.set(kim.userId, "displayname", { value: "Kim", visibility: "public" })
        return { kim, room_id, start }
      }).pipe(Effect.provide(HomeServer.layerOnDatabase(options)))
      yield* Effect.gen(function* () {
        const seen = yield* awaitEvents(first.kim, first.start, (events) =>
          events.some((event) => event.type === "m.room.member")
        )
        assert.deepInclude(
          seen.map((event) => event.content),
          { membership: "join", displayname: "Kim" }
        )
      }).pipe(Effect.provide(HomeServer.layerOnDatabase(options)))
    })
  )

  it.effect("a server may accept presence invites for its users, as the reference server of 2014 did", () =>
    Effect.gen(function* () {
      const users = yield* Users
      const presences = yield* Presences
      const laura = yield* person("laura")
      const mike = yield* person("mike")
      yield* users.updatePresenceList(laura, laura.userId, { invite: [mike.userId] })
      assert.isTrue((yield* users.presenceList(laura, laura.userId))[0]!.accepted)
      assert.strictEqual((yield* presences.get(laura, mike.userId)).state, "offline")
    }).pipe(Effect.provide(HomeServer.layerOnDatabase({ ...options, acceptPresenceInvites: true })))
  )
})
