import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { done, inPath, next, now, people, refused } from "../support/People.ts"
import { type Person, roomOf, Stage } from "../support/Scene.ts"

layer(Stage.layer(), { excludeTestServices: true })("Profiles and presence", (it) => {
  it.effect("presence is visible to users who share a room or were accepted", () =>
    Effect.gen(function* () {
      const [alice, bob] = (yield* people("alice", "bob")) as [Person, Person]
      const status = `/presence/${inPath(bob.userId)}/status`
      const listOf = (person: Person) => `/presence/list/${inPath(person.userId)}`
      refused(yield* alice.ask("GET", status), 403, "M_FORBIDDEN")
      const from = yield* now(bob)
      done(yield* alice.ask("POST", listOf(alice), { invite: [bob.userId] }))
      const { body: invited } = yield* alice.ask("GET", listOf(alice))
      assert.deepInclude(invited[0], { user_id: bob.userId, accepted: false })
      yield* next(bob, from, (event) => JSON.stringify(event).includes(alice.userId))
      done(yield* bob.ask("POST", listOf(bob), { accept: [alice.userId] }))
      const afterAccepting = yield* now(alice)
      done(yield* bob.ask("PUT", status, { presence: "unavailable", status_msg: "At lunch" }))
      const seen = yield* next(
        alice,
        afterAccepting,
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

  it.effect("a profile shows each user the fields visible to them, and the owner receives its changes", () =>
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

  it.effect("a new display name is set in every room of the user", () =>
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
})
