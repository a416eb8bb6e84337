import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  gateway,
  inPath,
  joinRoom,
  putState,
  redactEvent,
  register,
  roomWith,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { type Answer, sync } from "./SyncClient.ts"

interface BundledEvent {
  readonly event_id: string
  readonly type: string
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: {
    readonly transaction_id?: string
    readonly "m.relations"?: {
      readonly "m.replace"?: BundledEvent
      readonly "m.reference"?: { readonly chunk: ReadonlyArray<{ readonly event_id: string }> }
      readonly "m.thread"?: {
        readonly latest_event: BundledEvent
        readonly count: number
        readonly current_user_participated: boolean
      }
    }
  }
}

const send = (user: TestUser, room: string, content: object, type?: string) =>
  Effect.map(sendEvent(user, room, content, type), ({ body }) => body.event_id)
const relating = (rel_type: string, event_id: string, more: object = {}) => ({
  "m.relates_to": { rel_type, event_id, ...more }
})

const editing = (event_id: string, body: string) => ({
  ...relating("m.replace", event_id),
  "m.new_content": { msgtype: "m.text", body }
})

const ids = (chunk: unknown) => (chunk as ReadonlyArray<BundledEvent>).map(({ event_id }) => event_id)

/** What is bundled with an event. */
const bundleOf = (user: TestUser, room: string, event: string) =>
  Effect.map(
    as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(event)}`),
    ({ body }) => (body as unknown as BundledEvent).unsigned?.["m.relations"]
  )

/** Two members of a room. */
const setUp = Effect.fnUntraced(function* (name: string) {
  const alice = yield* register(`${name}-alice`)
  const bob = yield* register(`${name}-bob`)
  return { alice, bob, room: yield* roomWith(alice, [bob]) }
})

layer(gateway, { excludeTestServices: true })("relations and threads", (it) => {
  it.effect("a message is bundled with its newest edit, its references and its thread", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("bundle")
      const root = yield* sendText(alice, room, "Tee?")
      yield* sendText(alice, room, "* Tea", editing(root, "Tea"))
      const edit = yield* sendText(alice, room, "* Tea?", editing(root, "Tea?"))
      yield* sendText(bob, room, "* Coffee!", editing(root, "Coffee!"))
      yield* sendText(alice, room, "no new content", relating("m.replace", root))
      const reference = yield* send(bob, room, relating("m.reference", root), "org.example.note")
      yield* sendText(alice, room, "in the thread", relating("m.thread", root))
      const newest = yield* sendText(alice, room, "still there", relating("m.thread", root))
      const read = (user: TestUser) => bundleOf(user, room, root)
      const bundled = yield* read(bob)
      assert.strictEqual(bundled?.["m.replace"]?.event_id, edit)
      assert.deepStrictEqual(bundled?.["m.reference"]?.chunk, [{ event_id: reference }])
      assert.strictEqual(bundled?.["m.thread"]?.count, 2)
      assert.strictEqual(bundled?.["m.thread"]?.latest_event.event_id, newest)
      assert.isFalse(bundled?.["m.thread"]?.current_user_participated)
      assert.isTrue((yield* read(alice))?.["m.thread"]?.current_user_participated)
      yield* redactEvent(alice, room, newest)
      assert.strictEqual((yield* read(bob))?.["m.thread"]?.count, 1)
      const page = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=50`)
      const inPage = (page.body.chunk as unknown as ReadonlyArray<BundledEvent>).find((e) => e.event_id === root)
      assert.strictEqual(inPage?.unsigned?.["m.relations"]?.["m.replace"]?.event_id, edit)
    })
  )

  it.effect(
    "/sync bundles the edit of a message in a first answer and after a gap; otherwise the edit is news itself",
    () =>
      Effect.gen(function* () {
        const { alice, bob, room } = yield* setUp("sync-bundle")
        const root = yield* sendText(alice, room, "Tee?")
        const editsIn = (answer: Answer) =>
          answer.rooms.join[room]?.timeline.events.map(
            (event) => (event as unknown as BundledEvent).unsigned?.["m.relations"]?.["m.replace"]?.event_id
          )
        const { next_batch: since } = yield* sync(bob)
        const edit = yield* sendText(alice, room, "* Tea?", editing(root, "Tea?"))
        assert.isTrue(editsIn(yield* sync(bob))?.includes(edit))
        assert.deepStrictEqual(editsIn(yield* sync(bob, { since })), [undefined])
        const second = yield* sendText(alice, room, "Biscuits?")
        const newest = yield* sendText(alice, room, "* Biscuits!", editing(second, "Biscuits!"))
        const limited = { room: { timeline: { limit: 2 } } }
        assert.deepStrictEqual(editsIn(yield* sync(bob, { since, filter: limited })), [newest, undefined])
      })
  )

  it.effect("a former member gets no aggregations of events from after the leave", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("former")
      const root = yield* sendText(alice, room, "Tea?")
      const edit = yield* sendText(alice, room, "* Tea at five?", editing(root, "Tea at five?"))
      const answer = yield* sendText(alice, room, "in the thread", relating("m.thread", root))
      const alone = yield* sendText(alice, room, "Coffee?")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* sendText(alice, room, "* a secret", editing(root, "a secret"))
      yield* sendText(alice, room, "* a secret", editing(alone, "a secret"))
      yield* sendText(alice, room, "a secret", relating("m.thread", root))
      yield* send(alice, room, relating("m.reference", root), "org.example.note")
      const seen = yield* bundleOf(bob, room, root)
      assert.strictEqual(seen?.["m.replace"]?.event_id, edit)
      assert.strictEqual(seen?.["m.thread"]?.latest_event.event_id, answer)
      assert.strictEqual(seen?.["m.thread"]?.count, 1)
      assert.isUndefined(seen?.["m.reference"])
      assert.isUndefined(yield* bundleOf(bob, room, alone))
      for (const path of [`messages?dir=b`, `context/${inPath(alone)}`, "threads"]) {
        const version = path === "threads" ? "v1" : "v3"
        const { text } = yield* as(bob)("GET", `/${version}/rooms/${inPath(room)}/${path}`)
        assert.include(text, root)
        assert.notInclude(text, "a secret")
      }
      assert.strictEqual((yield* bundleOf(alice, room, root))?.["m.thread"]?.count, 2)
    })
  )

  it.effect("relations and threads have no events from the time for which a member was away", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("away")
      yield* putState(alice, room, "m.room.history_visibility", { history_visibility: "joined" })
      const seen = yield* sendText(alice, room, "seen")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const hidden = yield* sendText(alice, room, "hidden", relating("m.reference", seen))
      yield* sendText(alice, room, "* hidden", editing(seen, "hidden"))
      const root = yield* sendText(alice, room, "hidden")
      yield* joinRoom(bob, room)
      const shown = yield* sendText(alice, room, "shown", relating("m.reference", seen))
      yield* sendText(alice, room, "shown", relating("m.thread", root))
      const read = (user: TestUser, path: string) =>
        Effect.map(as(user)("GET", `/v1/rooms/${inPath(room)}/${path}`), ({ body }) => ids(body.chunk))
      const related = `relations/${inPath(seen)}`
      assert.includeMembers([...(yield* read(alice, related))], [shown, hidden])
      assert.deepStrictEqual(yield* read(bob, related), [shown])
      assert.hasAllKeys(yield* bundleOf(alice, room, seen), ["m.reference", "m.replace"])
      assert.deepStrictEqual(yield* bundleOf(bob, room, seen), { "m.reference": { chunk: [{ event_id: shown }] } })
      assert.deepStrictEqual(yield* read(alice, "threads"), [root])
      assert.deepStrictEqual(yield* read(bob, "threads"), [])
    })
  )

  it.effect("aggregations and pages of relations are bounded in bytes", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* setUp("bounded")
      const padding = "a".repeat(60_000)
      const roots: Array<string> = []
      for (let index = 0; index < 80; index++) roots.push(yield* sendText(alice, room, `${index}`))
      for (const root of roots) yield* sendText(alice, room, padding, editing(root, "b"))
      for (let index = 0; index < 20; index++) yield* sendText(alice, room, padding, editing(roots[79]!, "b"))
      const filter = inPath(JSON.stringify({ "org.matrix.msc3874.not_rel_types": ["m.replace"] }))
      const page = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=200&filter=${filter}`)
      const shown = (page.body.chunk as unknown as ReadonlyArray<BundledEvent>).filter((e) =>
        roots.includes(e.event_id)
      )
      assert.lengthOf(shown, 80)
      const edited = shown.filter(({ unsigned }) => unsigned?.["m.relations"]?.["m.replace"] !== undefined)
      assert.isBelow(edited.length, 75)
      assert.isAbove(edited.length, 60)
      const children = `/v1/rooms/${inPath(room)}/relations/${inPath(roots[79]!)}?limit=100`
      const first = yield* as(alice)("GET", children)
      assert.isBelow(ids(first.body.chunk).length, 20)
      const rest = yield* as(alice)("GET", `${children}&from=${first.body.next_batch}`)
      assert.lengthOf([...ids(first.body.chunk), ...ids(rest.body.chunk)], 21)
    })
  )

  it.effect("the newest event of a thread is bundled with its own edit, as its sender's device gets it", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("latest")
      const root = yield* sendText(alice, room, "root")
      const sent = yield* as(bob)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/latest-txn`, {
        msgtype: "m.text",
        body: "in teh thread",
        ...relating("m.thread", root)
      })
      const edit = yield* sendText(bob, room, "* in the thread", editing(sent.body.event_id, "in the thread"))
      const editOfEdit = yield* sendText(bob, room, "* no", editing(edit, "no"))
      const thread = yield* Effect.map(bundleOf(bob, room, root), (bundled) => bundled?.["m.thread"])
      assert.strictEqual(thread?.latest_event.event_id, sent.body.event_id)
      assert.strictEqual(thread?.latest_event.unsigned?.transaction_id, "latest-txn")
      assert.strictEqual(thread?.latest_event.unsigned?.["m.relations"]?.["m.replace"]?.event_id, edit)
      assert.isUndefined(yield* bundleOf(bob, room, edit), `${editOfEdit} edits an edit, which is not possible`)
      const ofAlice = yield* bundleOf(alice, room, root)
      assert.isTrue(ofAlice?.["m.thread"]?.current_user_participated, "alice sent the root")
      assert.isUndefined(ofAlice?.["m.thread"]?.latest_event.unsigned?.transaction_id)
    })
  )

  it.effect("a redacted event keeps its thread and the references to it, and loses its edits", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("redacted")
      const root = yield* sendText(alice, room, "root")
      yield* sendText(alice, room, "* Root", editing(root, "Root"))
      const reference = yield* send(bob, room, relating("m.reference", root), "org.example.note")
      const inThread = yield* sendText(bob, room, "in the thread", relating("m.thread", root))
      yield* redactEvent(alice, room, root)
      const bundled = yield* bundleOf(bob, room, root)
      assert.hasAllKeys(bundled, ["m.reference", "m.thread"])
      assert.deepStrictEqual(bundled?.["m.reference"]?.chunk, [{ event_id: reference }])
      assert.strictEqual(bundled?.["m.thread"]?.latest_event.event_id, inThread)
      const { body } = yield* as(bob)("GET", `/v1/rooms/${inPath(room)}/threads`)
      assert.deepStrictEqual(ids(body.chunk), [root])
    })
  )

  it.effect("the relations of an event are listed in pages, by type, and recursively", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("children")
      const root = yield* sendText(alice, room, "root")
      const reactions: Array<string> = []
      for (const key of ["a", "b", "c"]) {
        reactions.push(yield* send(bob, room, relating("m.annotation", root, { key }), "m.reaction"))
      }
      const reply = yield* sendText(bob, room, "reply", relating("m.thread", root))
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

  it.effect("an annotation that its sender repeats is refused until the first one is redacted", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("repeated")
      const root = yield* sendText(alice, room, "root")
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
      yield* redactEvent(bob, room, first.body.event_id)
      const together = yield* Effect.forEach([7, 8, 9], (number) => react(bob, `r${number}`, key), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(together.map(({ status }) => status).sort(), [200, 400, 400])
    })
  )

  it.effect("a chain of relations is followed to a limited depth", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* setUp("chain")
      let last = yield* sendText(alice, room, "root")
      const root = last
      for (let i = 0; i < 30; i++) last = yield* sendText(alice, room, `${i}`, relating("m.reference", last))
      const { body } = yield* as(alice)(
        "GET",
        `/v1/rooms/${inPath(room)}/relations/${inPath(root)}?recurse=true&limit=100`
      )
      assert.lengthOf(ids(body.chunk), 4)
    })
  )

  it.effect("threads are listed by their newest event, all or those with messages of the user", () =>
    Effect.gen(function* () {
      const { alice, bob, room } = yield* setUp("threads")
      const [one, two] = [yield* sendText(alice, room, "one"), yield* sendText(alice, room, "two")]
      yield* sendText(alice, room, "two!", relating("m.thread", two))
      yield* sendText(bob, room, "one!", relating("m.thread", one))
      const path = `/v1/rooms/${inPath(room)}/threads`
      assert.deepStrictEqual(ids((yield* as(bob)("GET", path)).body.chunk), [one, two])
      assert.deepStrictEqual(ids((yield* as(bob)("GET", `${path}?include=participated`)).body.chunk), [one])
      const first = yield* as(bob)("GET", `${path}?limit=1`)
      const second = yield* as(bob)("GET", `${path}?limit=1&from=${first.body.next_batch}`)
      assert.deepStrictEqual(ids(second.body.chunk), [two])
    })
  )

  it.effect("unread events are counted until they are read, in threads separately", () =>
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
      const root = yield* sendText(alice, room, "hello")
      yield* sendText(alice, room, "Bob?", { "m.mentions": { user_ids: [bob.id] } })
      yield* send(alice, room, { msgtype: "m.notice", body: "a notice" })
      yield* sendText(bob, room, "my own")
      assert.deepStrictEqual((yield* counts()).all, [2, 1])
      yield* read("m.read", root)
      assert.deepStrictEqual((yield* counts()).all, [1, 1])
      const inThread = yield* sendText(alice, room, "in the thread", relating("m.thread", root))
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

  it.effect("a thread cannot start at an event with a relation, and can start at a reply", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* setUp("root")
      const root = yield* sendText(alice, room, "Tea?")
      const inThread = yield* sendText(alice, room, "yes", relating("m.thread", root))
      const reply = yield* sendText(alice, room, "a reply", { "m.relates_to": { "m.in_reply_to": { event_id: root } } })
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
