import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, ask, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface Seen {
  readonly type: string
  readonly event_id: string
  readonly content: { readonly body?: string }
}

const messagesOf = (events: ReadonlyArray<Seen>) =>
  events.filter(({ type }) => type === "m.room.message").map(({ content }) => content.body)

layer(gateway, { excludeTestServices: true })("a deactivation with erasure", (it) => {
  it.effect("leaves the messages to users who were in the room, and nothing to later members", () =>
    Effect.gen(function* () {
      const alice = yield* register("erase-alice")
      const bob = yield* register("erase-bob")
      const carol = yield* register("erase-carol")
      const room = yield* createRoom(bob)
      yield* as(alice)("POST", `/v3/join/${inPath(room)}`, {})
      const path = `/v3/rooms/${inPath(room)}`
      yield* as(alice)("PUT", `${path}/send/m.room.message/1`, { msgtype: "m.text", body: "secret" })
      const open = yield* as(bob)("PUT", `${path}/send/m.room.message/2`, { msgtype: "m.text", body: "open" })
      yield* as(alice)("PUT", `${path}/send/m.room.message/3`, {
        msgtype: "m.text",
        body: "secret reply",
        "m.relates_to": { rel_type: "m.thread", event_id: open.body.event_id }
      })
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/org.example.notes`, { text: "private" })
      const erased = yield* as(alice)("POST", "/v3/account/deactivate", {
        erase: true,
        auth: { type: "m.login.password", user: alice.id, password: "secret-erase-alice" }
      })
      assert.strictEqual(erased.status, 200)
      yield* as(carol)("POST", `/v3/join/${inPath(room)}`, {})
      const page = (user: TestUser) =>
        Effect.map(as(user)("GET", `${path}/messages?dir=b&limit=100`), ({ body }) =>
          messagesOf(body.chunk as unknown as ReadonlyArray<Seen>)
        )
      assert.sameMembers([...(yield* page(bob))], ["secret", "open", "secret reply"])
      assert.sameMembers([...(yield* page(carol))], [undefined, "open", undefined])
      // The bundle of the message that began the thread is the same.
      const latestReply = (user: TestUser) =>
        Effect.map(as(user)("GET", `${path}/event/${inPath(open.body.event_id)}`), ({ body }) => {
          const { "m.relations": relations } = body.unsigned as {
            "m.relations": Record<string, { latest_event: Seen }>
          }
          return relations["m.thread"]?.latest_event.content.body
        })
      assert.deepStrictEqual([yield* latestReply(bob), yield* latestReply(carol)], ["secret reply", undefined])
      const { body } = yield* as(carol)("GET", "/v3/sync")
      const rooms = body.rooms as { join: Record<string, { timeline: { events: ReadonlyArray<Seen> } }> }
      assert.sameMembers(messagesOf(rooms.join[room]!.timeline.events), [undefined, "open", undefined])
      // Clients of the draft are shown the same.
      const draft = yield* ask("GET", `/rooms/${inPath(room)}/messages?dir=b&limit=100&from=END`, {
        token: carol.token
      })
      assert.sameMembers(messagesOf(draft.body.chunk as unknown as ReadonlyArray<Seen>), [undefined, "open", undefined])
      const sliding = yield* as(carol)("POST", "/unstable/org.matrix.simplified_msc3575/sync?timeout=0", {
        lists: { all: { ranges: [[0, 9]], timeline_limit: 20, required_state: [] } }
      })
      const shown = sliding.body.rooms as Record<string, { timeline: ReadonlyArray<Seen> }>
      assert.sameMembers(messagesOf(shown[room]!.timeline), [undefined, "open", undefined])
      assert.strictEqual((yield* as(carol)("GET", `/v3/profile/${inPath(alice.id)}`)).status, 404)
    })
  )
})
