/**
 * Answers are bounded in bytes. The next request continues where an answer ends.
 */
import { assert, layer } from "@effect/vitest"
import { RoomId } from "@greenroom/protocol/Identifiers"
import { maxPageBytes } from "@greenroom/protocol/Pagination"
import { Effect } from "effect"
import { connect } from "./socket/TestSocket.ts"
import {
  type Answer,
  ask,
  askToday,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  register,
  type TestUser
} from "./TestGateway.ts"

/** A page ends after the event that exceeds the limit, and events have keys that the limit does not count. */
const largestAnswer = maxPageBytes + 70_000

const bodyBytes = 60_000
const count = 40

const bodyOf = (index: number) => `${index} ${"x".repeat(bodyBytes)}`

const numbersOf = (events: ReadonlyArray<ClientEvent>) =>
  events.flatMap(({ content, type }) =>
    type === "m.room.message" ? [Number(String(content.body).slice(0, String(content.body).indexOf(" ")))] : []
  )

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers, whose shape is what the tests look at.
type Any = any
const any = (body: unknown): Any => body

const numbers = Array.from({ length: count }, (_, index) => index)

/** A user with a room of large messages, and where the stream was before them. */
const largeRoom = Effect.fnUntraced(function* (name: string) {
  const alice = yield* register(name)
  const room = RoomId.make(yield* createRoom(alice))
  const { body } = yield* ask("GET", "/events?timeout=0", { token: alice.token })
  for (const index of numbers) {
    yield* ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/${index}`, {
      token: alice.token,
      json: { msgtype: "m.text", body: bodyOf(index) }
    })
  }
  return { alice, room, start: body.end }
})

/** Reads pages from a token on until one is empty. Checks that no page is too large. */
const readPages = Effect.fnUntraced(function* (user: TestUser, path: (from: string) => string, from: string) {
  const seen: Array<ClientEvent> = []
  const pages: Array<Answer> = []
  for (let at = from; ; ) {
    const answer = yield* ask("GET", path(at), { token: user.token })
    assert.strictEqual(answer.status, 200, answer.text)
    assert.isAtMost(Buffer.byteLength(answer.text), largestAnswer)
    const events = answer.body.chunk.filter(({ event_id }) => event_id !== undefined)
    if (events.length === 0) return { seen, pages }
    seen.push(...events)
    pages.push(answer)
    at = answer.body.end
  }
})

layer(gateway, { excludeTestServices: true })("large answers", (it) => {
  it.effect("pages of messages end at a limit of bytes, and the next page continues there", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* largeRoom("pages-alice")
      for (const dir of ["f", "b"]) {
        const path = (from: string) => `/rooms/${inPath(room)}/messages?dir=${dir}&limit=1000&from=${from}`
        const { pages, seen } = yield* readPages(alice, path, dir === "f" ? "START" : "END")
        assert.deepStrictEqual(numbersOf(seen), dir === "f" ? numbers : numbers.toReversed())
        assert.isAbove(pages.length, 2)
        const today = (from: string) =>
          `//_matrix/client/v3/rooms/${inPath(room)}/messages?dir=${dir}&limit=1000&from=${from}`
        const inToday = yield* readPages(alice, today, "")
        assert.deepStrictEqual(numbersOf(inToday.seen), dir === "f" ? numbers : numbers.toReversed())
        assert.isAbove(inToday.pages.length, 2)
      }
    })
  )

  it.effect("the events around an event have as many bytes as a page, and as many before it as after it", () =>
    Effect.gen(function* () {
      const { alice, room } = yield* largeRoom("context-alice")
      const path = `/v3/rooms/${inPath(room)}/messages?dir=f&limit=${count / 2}`
      const middle = (yield* askToday("GET", path, { token: alice.token })).body.chunk.at(-1)!
      const context = `/v3/rooms/${inPath(room)}/context/${inPath(middle.event_id)}?limit=1000`
      const { body } = yield* askToday("GET", context, { token: alice.token })
      for (const around of [any(body).events_before, any(body).events_after]) {
        const bytes = Buffer.byteLength(JSON.stringify(around))
        assert.isAbove(bytes, maxPageBytes / 2 - bodyBytes)
        assert.isBelow(bytes, maxPageBytes / 2 + 2 * bodyBytes)
      }
    })
  )

  it.effect("an empty page of messages ends where it begins", () =>
    Effect.gen(function* () {
      const alice = yield* register("empty-alice")
      const room = inPath(yield* createRoom(alice))
      for (const dir of ["f", "b"]) {
        const path = `/v3/rooms/${room}/messages?dir=${dir}`
        const { body } = yield* askToday("GET", `${path}&limit=0`, { token: alice.token })
        assert.deepStrictEqual(body.chunk, [])
        const whole = yield* askToday("GET", path, { token: alice.token })
        const next = yield* askToday("GET", `${path}&from=${body.end}`, { token: alice.token })
        const ids = ({ body: { chunk } }: Answer) => chunk.map(({ event_id }) => event_id)
        assert.isNotEmpty(ids(whole))
        assert.deepStrictEqual(ids(next), ids(whole))
      }
    })
  )

  it.effect(
    "a search for messages that pass a filter reads a bounded number of bytes, and the next page continues there",
    () =>
      Effect.gen(function* () {
        const { alice, room } = yield* largeRoom("filter-alice")
        for (let part = 1; part < 5; part++) {
          for (const index of numbers) {
            yield* ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/${part}-${index}`, {
              token: alice.token,
              json: { msgtype: "m.text", body: bodyOf(index) }
            })
          }
        }
        for (const dir of ["f", "b"]) {
          const filter = inPath(JSON.stringify({ types: ["m.room.create"] }))
          const found: Array<string> = []
          let [from, pages] = ["", 0]
          for (; ; pages++) {
            const path = `/v3/rooms/${inPath(room)}/messages?dir=${dir}&filter=${filter}&from=${from}`
            const { body } = yield* askToday("GET", path, { token: alice.token })
            found.push(...body.chunk.map(({ type }) => type))
            if (body.end === undefined) break
            from = body.end
          }
          assert.deepStrictEqual(found, ["m.room.create"])
          assert.isAbove(pages, 1)
          assert.isBelow(pages, 5)
        }
      })
  )

  it.effect("chunks of the event stream end at the limit of bytes, from memory and from the database", () =>
    Effect.gen(function* () {
      const { alice, start } = yield* largeRoom("stream-alice")
      const path = (from: string) => `/events?timeout=0&limit=1000&from=${from}`
      for (const from of [start, "START"]) {
        const { pages, seen } = yield* readPages(alice, path, from)
        assert.deepStrictEqual(numbersOf(seen), numbers)
        assert.isAbove(pages.length, 2)
      }
    })
  )

  it.effect("a state of many megabytes is answered whole to several concurrent requests", () =>
    Effect.gen(function* () {
      const alice = yield* register("state-alice")
      const room = inPath(yield* createRoom(alice))
      for (const index of numbers) {
        const path = `/rooms/${room}/state/org.example.large/${index}`
        yield* ask("PUT", path, { token: alice.token, json: { body: bodyOf(index) } })
      }
      const found = (events: ReadonlyArray<ClientEvent>) =>
        events.flatMap(({ content, type }) =>
          type === "org.example.large" ? [Number.parseInt(String(content.body), 10)] : []
        )
      const read = Effect.fnUntraced(function* (path: string, events: (answer: Answer) => ReadonlyArray<ClientEvent>) {
        const answer = yield* ask("GET", path, { token: alice.token })
        assert.strictEqual(answer.status, 200)
        assert.sameMembers([...found(events(answer))], numbers)
      })
      const stateIn = (answer: Answer) => answer.body as unknown as ReadonlyArray<ClientEvent>
      yield* Effect.all(
        [
          ...Array.from({ length: 6 }, () => read(`/rooms/${room}/state`, stateIn)),
          read(`/rooms/${room}/initialSync`, ({ body }) => any(body).state),
          read("/initialSync", ({ body }) => any(body).rooms[0].state),
          read(`//_matrix/client/v3/rooms/${room}/state`, stateIn),
          read("//_matrix/client/v3/sync?filter={}", ({ body }) =>
            Object.values<Any>(any(body).rooms.join).flatMap(({ state, timeline }) => [
              ...state.events,
              ...timeline.events
            ])
          )
        ],
        { concurrency: "unbounded" }
      )
    })
  )

  it.effect(
    "a timeline that is cut at the limit of bytes is `limited`, and prev_batch leads to the messages before it",
    () =>
      Effect.gen(function* () {
        const { alice, room } = yield* largeRoom("sync-alice")
        const filter = encodeURIComponent(JSON.stringify({ room: { timeline: { limit: 100 } } }))
        const { body } = yield* askToday("GET", `/v3/sync?filter=${filter}`, { token: alice.token })
        const { timeline } = any(body).rooms.join[room]
        assert.isTrue(timeline.limited)
        const inTimeline = numbersOf(timeline.events)
        assert.isBelow(inTimeline.length, count)
        const page = `/v3/rooms/${inPath(room)}/messages?dir=b&limit=100&from=${timeline.prev_batch}`
        const { body: before } = yield* askToday("GET", page, { token: alice.token })
        const older = numbersOf(any(before).chunk)
        assert.deepStrictEqual(
          [...older].reverse().concat(inTimeline),
          numbers.slice(-(older.length + inTimeline.length))
        )
        assert.isAbove(older.length, 0)
      })
  )

  it.effect("feedback is bundled with a page up to the limit of bytes", () =>
    Effect.gen(function* () {
      const alice = yield* register("feedback-alice")
      const room = inPath(yield* createRoom(alice))
      const send = (type: string, json: unknown) =>
        ask("POST", `/rooms/${room}/send/${type}`, { token: alice.token, json })
      const message = yield* send("m.room.message", { msgtype: "m.text", body: "what do you say?" })
      const feedback = { type: "read", target_event_id: message.body.event_id, note: "x".repeat(bodyBytes) }
      for (const _ of numbers) assert.strictEqual((yield* send("m.room.message.feedback", feedback)).status, 200)
      const page = yield* ask("GET", `/rooms/${room}/messages?dir=f&limit=1000&feedback=true`, { token: alice.token })
      const [shown] = page.body.chunk.filter(({ type }) => type === "m.room.message")
      assert.isAtMost(Buffer.byteLength(page.text), largestAnswer)
      assert.isAbove((shown as unknown as { readonly feedback: ReadonlyArray<ClientEvent> }).feedback.length, 10)
    })
  )

  for (const subprotocol of ["m.json", "m.msgpack"] as const) {
    it.effect(`chunks of the stream and pages of messages by ${subprotocol} end at the limit of bytes`, () =>
      Effect.gen(function* () {
        const { alice, room, start } = yield* largeRoom(`${subprotocol}-alice`)
        const socket = yield* connect(alice, subprotocol, `&from=${start}`)
        let largest = 0
        socket.socket.on("message", (data: Buffer) => {
          largest = Math.max(largest, data.length)
        })
        const seen: Array<unknown> = []
        while (seen.length < count) {
          const { chunk } = yield* socket.chunk
          seen.push(...numbersOf(chunk as never))
        }
        assert.deepStrictEqual(seen, numbers)
        yield* socket.ask(1, { method: "messages", params: { room_id: room, dir: "b", limit: 1000 } })
        const answer = (yield* socket.answer) as unknown as {
          readonly result: { readonly chunk: ReadonlyArray<ClientEvent> }
        }
        const page = numbersOf(answer.result.chunk)
        assert.deepStrictEqual(page, numbers.toReversed().slice(0, page.length))
        assert.isAbove(largest, maxPageBytes / 2)
        assert.isAtMost(largest, largestAnswer)
      }).pipe(Effect.scoped)
    )
  }
})
