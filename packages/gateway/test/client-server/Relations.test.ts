import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: {
    readonly "m.relations"?: {
      readonly "m.replace"?: ClientEvent
      readonly "m.reference"?: { readonly chunk: ReadonlyArray<{ readonly event_id: string }> }
      readonly "m.thread"?: {
        readonly latest_event: ClientEvent
        readonly count: number
        readonly current_user_participated: boolean
      }
    }
  }
}

let transactions = 0
const send = (user: TestUser, room: string, content: object, type = "m.room.message") =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/${type}/t${transactions++}`, content),
    ({ body }) => body.event_id
  )
const say = (user: TestUser, room: string, text: string, more: object = {}) =>
  send(user, room, { msgtype: "m.text", body: text, ...more })
const relating = (rel_type: string, event_id: string, more: object = {}) => ({
  "m.relates_to": { rel_type, event_id, ...more }
})

const ids = (chunk: unknown) => (chunk as ReadonlyArray<ClientEvent>).map(({ event_id }) => event_id)

const setUp = Effect.fnUntraced(function* (name: string) {
  const alice = yield* register(`${name}-alice`)
  const bob = yield* register(`${name}-bob`)
  const room = yield* createRoom(alice)
  yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
  return { alice, bob, room }
})

layer(gateway, { excludeTestServices: true })("relations and threads", (it) => {
  it.effect("the newest edit, references and the thread are bundled with a message", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("bundle")
      const root = yield* say(alice, room, "Tee?")
      yield* say(alice, room, "* Tea", relating("m.replace", root))
      const edit = yield* say(alice, room, "* Tea?", relating("m.replace", root))
      yield* say(bob, room, "* Coffee!", relating("m.replace", root))
      const reference = yield* send(bob, room, relating("m.reference", root), "org.example.note")
      yield* say(alice, room, "in the thread", relating("m.thread", root))
      const newest = yield* say(alice, room, "still there", relating("m.thread", root))
      const read = (user: TestUser) =>
        Effect.map(
          as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(root)}`),
          ({ body }) => (body as unknown as ClientEvent).unsigned?.["m.relations"]
        )
      const bundled = yield* read(bob)
      assert.strictEqual(bundled?.["m.replace"]?.event_id, edit)
      assert.deepStrictEqual(bundled?.["m.reference"]?.chunk, [{ event_id: reference }])
      assert.strictEqual(bundled?.["m.thread"]?.count, 2)
      assert.strictEqual(bundled?.["m.thread"]?.latest_event.event_id, newest)
      assert.isFalse(bundled?.["m.thread"]?.current_user_participated)
      assert.isTrue((yield* read(alice))?.["m.thread"]?.current_user_participated)
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(newest)}/r1`, {})
      assert.strictEqual((yield* read(bob))?.["m.thread"]?.count, 1)
      const page = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=50`)
      const inPage = (page.body.chunk as unknown as ReadonlyArray<ClientEvent>).find((e) => e.event_id === root)
      assert.strictEqual(inPage?.unsigned?.["m.relations"]?.["m.replace"]?.event_id, edit)
    })
  )

  it.effect("relations of an event are paged, by kind and type, and further by recursion", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("children")
      const root = yield* say(alice, room, "root")
      const reactions: Array<string> = []
      for (const key of ["a", "b", "c"]) {
        reactions.push(yield* send(bob, room, relating("m.annotation", root, { key }), "m.reaction"))
      }
      const reply = yield* say(bob, room, "reply", relating("m.thread", root))
      const onReply = yield* send(alice, room, relating("m.annotation", reply, { key: "x" }), "m.reaction")
      const path = `/v1/rooms/${inPath(room)}/relations/${inPath(root)}`
      assert.deepStrictEqual(ids((yield* as(alice)("GET", path)).body.chunk), [reply, ...reactions.toReversed()])
      const first = yield* as(alice)("GET", `${path}/m.annotation/m.reaction?limit=2`)
      assert.deepStrictEqual(ids(first.body.chunk), [reactions[2], reactions[1]])
      const rest = yield* as(alice)("GET", `${path}/m.annotation/m.reaction?limit=2&from=${first.body.next_batch}`)
      assert.deepStrictEqual(ids(rest.body.chunk), [reactions[0]])
      assert.notProperty(rest.body, "next_batch")
      const deep = yield* as(alice)("GET", `${path}?recurse=true&dir=f`)
      assert.include(ids(deep.body.chunk), onReply)
      const older = yield* as(alice)("GET", `${path}?org.matrix.msc3981.recurse=true&dir=f`)
      assert.deepStrictEqual(ids(older.body.chunk), ids(deep.body.chunk))
      const eve = yield* register("children-eve")
      assert.strictEqual((yield* as(eve)("GET", path)).body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("an annotation is refused that repeats one of the user, until that is redacted", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("repeated")
      const root = yield* say(alice, room, "root")
      const react = (user: TestUser, txnId: string, key: string, type = "m.reaction") =>
        as(user)(
          "PUT",
          `/v3/rooms/${inPath(room)}/send/${type}/${txnId}`,
          relating("m.annotation", root, { key, shortcode: "tea" })
        )
      const key = 'tea "\0'
      const first = yield* react(bob, "r1", key)
      assert.strictEqual(first.status, 200, first.text)
      assert.strictEqual((yield* react(bob, "r1", key)).body.event_id, first.body.event_id)
      const repeated = yield* react(bob, "r2", key)
      assert.deepStrictEqual([repeated.status, repeated.body.errcode], [400, "M_DUPLICATE_ANNOTATION"])
      assert.strictEqual((yield* react(alice, "r3", key)).status, 200)
      assert.strictEqual((yield* react(bob, "r4", "cake")).status, 200)
      assert.strictEqual((yield* react(bob, "r5", key, "org.example.vote")).status, 200)
      yield* as(bob)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(first.body.event_id)}/r6`, {})
      const together = yield* Effect.forEach([7, 8, 9], (number) => react(bob, `r${number}`, key), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(together.map(({ status }) => status).sort(), [200, 400, 400])
    })
  )

  it.effect("a long chain of relations is followed no further than is useful", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* setUp("chain")
      let last = yield* say(alice, room, "root")
      const root = last
      for (let i = 0; i < 30; i++) last = yield* say(alice, room, `${i}`, relating("m.reference", last))
      const { body } = yield* as(alice)(
        "GET",
        `/v1/rooms/${inPath(room)}/relations/${inPath(root)}?recurse=true&limit=100`
      )
      assert.isAtMost(ids(body.chunk).length, 4)
    })
  )

  it.effect("threads are listed by their newest event, all of them or those of the user", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("threads")
      const [one, two] = [yield* say(alice, room, "one"), yield* say(alice, room, "two")]
      yield* say(alice, room, "two!", relating("m.thread", two))
      yield* say(bob, room, "one!", relating("m.thread", one))
      const path = `/v1/rooms/${inPath(room)}/threads`
      assert.deepStrictEqual(ids((yield* as(bob)("GET", path)).body.chunk), [one, two])
      assert.deepStrictEqual(ids((yield* as(bob)("GET", `${path}?include=participated`)).body.chunk), [one])
      const first = yield* as(bob)("GET", `${path}?limit=1`)
      const second = yield* as(bob)("GET", `${path}?limit=1&from=${first.body.next_batch}`)
      assert.deepStrictEqual(ids(second.body.chunk), [two])
    })
  )

  it.effect("counts unread events until they are read: messages, mentions, threads apart", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("unread")
      const counts = Effect.fnUntraced(function* (byThread = false) {
        const filter = byThread ? { room: { timeline: { unread_thread_notifications: true } } } : {}
        const { body } = yield* as(bob)("GET", `/v3/sync?filter=${inPath(JSON.stringify(filter))}`)
        const joined = (body.rooms as { readonly join: { readonly [roomId: string]: object } }).join[room] as {
          readonly unread_notifications: { readonly notification_count: number; readonly highlight_count: number }
          readonly unread_thread_notifications?: object
        }
        const { highlight_count, notification_count } = joined.unread_notifications
        return { all: [notification_count, highlight_count], threads: joined.unread_thread_notifications }
      })
      const read = (type: string, id: string, json: object = {}) =>
        as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/${type}/${inPath(id)}`, json)
      const root = yield* say(alice, room, "hello")
      yield* say(alice, room, "Bob?", { "m.mentions": { user_ids: [bob.id] } })
      yield* send(alice, room, { msgtype: "m.notice", body: "a notice" })
      yield* say(bob, room, "my own")
      assert.deepStrictEqual((yield* counts()).all, [2, 1])
      yield* read("m.read", root)
      assert.deepStrictEqual((yield* counts()).all, [1, 1])
      const inThread = yield* say(alice, room, "in the thread", relating("m.thread", root))
      assert.deepStrictEqual((yield* counts()).all, [2, 1])
      const apart = yield* counts(true)
      assert.deepStrictEqual(apart.all, [1, 1])
      assert.deepStrictEqual(apart.threads, { [root]: { notification_count: 1, highlight_count: 0 } })
      yield* read("m.read.private", inThread, { thread_id: root })
      assert.deepStrictEqual((yield* counts(true)).threads, {})
      assert.deepStrictEqual((yield* counts()).all, [1, 1])
      yield* read("m.read.private", inThread)
      assert.deepStrictEqual((yield* counts()).all, [0, 0])
    })
  )

  it.effect("no thread starts at an event that relates to another one, but at a reply", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* setUp("root")
      const root = yield* say(alice, room, "Tea?")
      const inThread = yield* say(alice, room, "yes", relating("m.thread", root))
      const reply = yield* say(alice, room, "a reply", { "m.relates_to": { "m.in_reply_to": { event_id: root } } })
      const start = (event: string, txn: string) =>
        as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${txn}`, {
          msgtype: "m.text",
          body: "x",
          ...relating("m.thread", event)
        })
      const refused = yield* start(inThread, "s1")
      assert.deepStrictEqual([refused.status, refused.body.errcode], [400, "M_UNKNOWN"])
      assert.strictEqual((yield* start(reply, "s2")).status, 200)
      assert.strictEqual((yield* start(root, "s3")).status, 200)
    })
  )
})
