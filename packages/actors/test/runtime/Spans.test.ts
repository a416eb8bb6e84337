/**
 * The spans of an operation that a program which embeds the home server sees in its own tracer, below its own spans.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Option, Tracer } from "effect"
import { Rooms } from "../../src/room/Rooms.ts"
import { guest, layer as homeServer } from "../TestHomeServer.ts"

/** The spans of some work, by a tracer of the program. */
const spansOf = Effect.fnUntraced(function* <A, E, R>(work: Effect.Effect<A, E, R>) {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const result = yield* work.pipe(Effect.exit, Effect.withSpan("Bridge.copy"), Effect.withTracer(tracer))
  return { result, spans }
})

/** The names from a span up to the root. */
const path = (span: Tracer.AnySpan): ReadonlyArray<string> =>
  span._tag === "Span" ? [span.name, ...Option.match(span.parent, { onNone: () => [], onSome: path })] : []

layer(homeServer, { excludeTestServices: true })("Spans", (it) => {
  it.effect("a send is a span below that of the program, down to the actor and the commit", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, { visibility: "public" })
      const { spans } = yield* spansOf(
        rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body: "hello" })
      )
      const commit = spans.find(({ name }) => name === "EventLog.append")
      assert.isDefined(commit, spans.map(({ name }) => name).join(" "))
      assert.deepStrictEqual(path(commit!), ["EventLog.append", "Room.Propose", "Rooms.send", "Bridge.copy"])
      assert.isTrue(spans.every(({ status }) => status._tag === "Ended"))
    })
  )

  it.effect("a refusal is a typed error, and the spans on its way failed", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const [alice, mallory] = [guest("alice"), guest("mallory")]
      const { room_id } = yield* rooms.create(alice, { visibility: "private" })
      const topic = rooms.setState(mallory, room_id, "m.room.topic", "", { topic: "Mine" })
      const { result, spans } = yield* spansOf(
        Effect.catchTag(topic, "M_FORBIDDEN", ({ error }) => Effect.succeed(`refused: ${error}`))
      )
      assert.match(String(result._tag === "Success" ? result.value : result), /^refused: /)
      const refused = spans.find(({ name }) => name === "Room.Propose")
      assert.deepStrictEqual(path(refused!), ["Room.Propose", "Rooms.setState", "Bridge.copy"])
      assert.isTrue(refused!.status._tag === "Ended" && refused!.status.exit._tag === "Failure")
    })
  )
})
