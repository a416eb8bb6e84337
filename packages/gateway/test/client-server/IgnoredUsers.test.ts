import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  type ClientEvent,
  gateway,
  inPath,
  messageBodies,
  outcome,
  putState,
  register,
  roomWith,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"

interface Thread {
  readonly count: number
  readonly latest_event: ClientEvent
}
interface Bundled extends ClientEvent {
  readonly unsigned?: { readonly "m.relations"?: { readonly "m.thread"?: Thread; readonly "m.reference"?: object } }
}

const relating = (rel_type: string, event_id: string) => ({ "m.relates_to": { rel_type, event_id } })

const ignore = (user: TestUser, others: ReadonlyArray<TestUser>) =>
  as(user)("PUT", `/v3/user/${inPath(user.id)}/account_data/m.ignored_user_list`, {
    ignored_users: Object.fromEntries(others.map(({ id }) => [id, {}]))
  })

/** A room in which alice ignores bob, and carol is. */
const setUp = Effect.fnUntraced(function* (name: string) {
  const alice = yield* register(`${name}-alice`)
  const bob = yield* register(`${name}-bob`)
  const carol = yield* register(`${name}-carol`)
  const room = yield* roomWith(alice, [bob, carol])
  yield* ignore(alice, [bob])
  return { alice, bob, carol, room, path: `/v3/rooms/${inPath(room)}` }
})

layer(gateway, { excludeTestServices: true })("ignored users", (it) => {
  it.effect("their messages are in no history, context, event or search; their state events are", () =>
    Effect.gen(function* () {
      const { alice, bob, carol, path, room } = yield* setUp("history")
      yield* putState(alice, room, "m.room.power_levels", { users: { [bob.id]: 50 } })
      yield* sendText(carol, room, "heard kettle")
      const unheard = yield* sendText(bob, room, "unheard kettle")
      yield* putState(bob, room, "m.room.topic", { topic: "kettles by bob" })
      const last = yield* sendText(carol, room, "kettle heard")
      const read = (user: TestUser) =>
        Effect.map(as(user)("GET", `${path}/messages?dir=b&limit=5`), ({ body }) => body.chunk)
      assert.deepStrictEqual(messageBodies(yield* read(carol)), ["kettle heard", "unheard kettle", "heard kettle"])
      const ofAlice = yield* read(alice)
      assert.deepStrictEqual(messageBodies(ofAlice), ["kettle heard", "heard kettle"])
      assert.isTrue(ofAlice.some(({ content }) => content.topic === "kettles by bob"))
      assert.lengthOf(ofAlice, 5, "the page is full")
      const { body: context } = yield* as(alice)("GET", `${path}/context/${inPath(last)}?limit=10`)
      assert.deepStrictEqual(messageBodies(context.events_before), ["heard kettle"])
      for (const kind of ["event", "context"]) {
        assert.strictEqual(outcome(yield* as(alice)("GET", `${path}/${kind}/${inPath(unheard)}`)), "404 M_NOT_FOUND")
      }
      const found = yield* as(alice)("POST", "/v3/search", {
        search_categories: { room_events: { search_term: "kettle", keys: ["content.body"], order_by: "recent" } }
      })
      assert.include(found.text, "kettle heard")
      assert.notInclude(found.text, "unheard")
      const reported = yield* as(alice)("POST", `${path}/report/${inPath(unheard)}`, { reason: "a kettle" })
      assert.strictEqual(reported.status, 200, "what is ignored can be reported")
      yield* ignore(alice, [alice])
      assert.strictEqual((yield* as(alice)("GET", `${path}/event/${inPath(unheard)}`)).status, 200)
      yield* sendText(alice, room, "my own")
      assert.strictEqual(messageBodies(yield* read(alice))[0], "my own", "nobody ignores themselves")
    })
  )

  it.effect("a page reads on over their messages", () =>
    Effect.gen(function* () {
      const { alice, bob, carol, path, room } = yield* setUp("many")
      yield* sendText(carol, room, "before")
      for (let i = 0; i < 12; i++) yield* sendText(bob, room, `unheard ${i}`)
      const { body } = yield* as(alice)("GET", `${path}/messages?dir=b&limit=1`)
      assert.deepStrictEqual(messageBodies(body.chunk), ["before"])
    })
  )

  it.effect("their messages count in no thread and no aggregation, and are no relations of an event", () =>
    Effect.gen(function* () {
      const { alice, bob, carol, path, room } = yield* setUp("threads")
      const root = yield* sendText(carol, room, "root")
      yield* sendText(carol, room, "first", relating("m.thread", root))
      yield* sendText(bob, room, "unheard", relating("m.thread", root))
      const reference = (user: TestUser) =>
        Effect.map(
          sendEvent(user, room, relating("m.reference", root), "org.example.note"),
          ({ body }) => body.event_id
        )
      const kept = yield* reference(carol)
      const left = yield* reference(bob)
      const bundleOf = (user: TestUser) =>
        Effect.map(
          as(user)("GET", `${path}/event/${inPath(root)}`),
          ({ body }) => (body as unknown as Bundled).unsigned?.["m.relations"]
        )
      const all = yield* bundleOf(carol)
      assert.deepStrictEqual([all?.["m.thread"]?.count, all?.["m.thread"]?.latest_event.content.body], [2, "unheard"])
      assert.deepStrictEqual(all?.["m.reference"], { chunk: [{ event_id: kept }, { event_id: left }] })
      const ofAlice = yield* bundleOf(alice)
      assert.deepStrictEqual(
        [ofAlice?.["m.thread"]?.count, ofAlice?.["m.thread"]?.latest_event.content.body],
        [1, "first"]
      )
      assert.deepStrictEqual(ofAlice?.["m.reference"], { chunk: [{ event_id: kept }] })
      const relations = yield* as(alice)("GET", `/v1/rooms/${inPath(room)}/relations/${inPath(root)}`)
      assert.notInclude(relations.text, left)
      assert.deepStrictEqual(messageBodies(relations.body.chunk), ["first"])
      const byBob = yield* sendText(bob, room, "a root of bob")
      yield* sendText(carol, room, "an answer to bob", relating("m.thread", byBob))
      const threads = yield* as(alice)("GET", `/v1/rooms/${inPath(room)}/threads`)
      assert.deepStrictEqual(
        threads.body.chunk.map(({ content, event_id }) => [event_id, content.body]),
        [
          [byBob, undefined],
          [root, "root"]
        ],
        "the root of an ignored user is redacted"
      )
    })
  )
})
