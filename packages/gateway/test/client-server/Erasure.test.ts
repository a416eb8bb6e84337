import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  ask,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  messageBodies,
  register,
  sendText,
  type TestUser
} from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("a deactivation with erasure", (it) => {
  it.effect("keeps messages visible to members of that time, and redacts them for later members", () =>
    Effect.gen(function* () {
      const alice = yield* register("erase-alice")
      const bob = yield* register("erase-bob")
      const carol = yield* register("erase-carol")
      const room = yield* createRoom(bob)
      yield* joinRoom(alice, room)
      const path = `/v3/rooms/${inPath(room)}`
      yield* sendText(alice, room, "secret")
      const open = yield* sendText(bob, room, "open")
      yield* sendText(alice, room, "secret reply", { "m.relates_to": { rel_type: "m.thread", event_id: open } })
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/org.example.notes`, { text: "private" })
      const erased = yield* as(alice)("POST", "/v3/account/deactivate", {
        erase: true,
        auth: { type: "m.login.password", user: alice.id, password: "secret-erase-alice" }
      })
      assert.strictEqual(erased.status, 200)
      yield* joinRoom(carol, room)
      const page = (user: TestUser) =>
        Effect.map(as(user)("GET", `${path}/messages?dir=b&limit=100`), ({ body }) => messageBodies(body.chunk))
      assert.sameMembers([...(yield* page(bob))], ["secret", "open", "secret reply"])
      assert.sameMembers([...(yield* page(carol))], [undefined, "open", undefined])
      // The thread bundled with its root has the redacted reply, too.
      const latestReply = (user: TestUser) =>
        Effect.map(as(user)("GET", `${path}/event/${inPath(open)}`), ({ body }) => {
          const { "m.relations": relations } = body.unsigned as {
            "m.relations": Record<string, { latest_event: ClientEvent }>
          }
          return relations["m.thread"]?.latest_event.content.body
        })
      assert.deepStrictEqual([yield* latestReply(bob), yield* latestReply(carol)], ["secret reply", undefined])
      const { body } = yield* as(carol)("GET", "/v3/sync")
      const rooms = body.rooms as { join: Record<string, { timeline: { events: ReadonlyArray<ClientEvent> } }> }
      assert.sameMembers(messageBodies(rooms.join[room]!.timeline.events), [undefined, "open", undefined])
      const draft = yield* ask("GET", `/rooms/${inPath(room)}/messages?dir=b&limit=100&from=END`, {
        token: carol.token
      })
      assert.sameMembers(messageBodies(draft.body.chunk), [undefined, "open", undefined])
      const sliding = yield* as(carol)("POST", "/unstable/org.matrix.simplified_msc3575/sync?timeout=0", {
        lists: { all: { ranges: [[0, 9]], timeline_limit: 20, required_state: [] } }
      })
      const shown = sliding.body.rooms as Record<string, { timeline: ReadonlyArray<ClientEvent> }>
      assert.sameMembers(messageBodies(shown[room]!.timeline), [undefined, "open", undefined])
      assert.strictEqual((yield* as(carol)("GET", `/v3/profile/${inPath(alice.id)}`)).status, 404)
    })
  )
})
