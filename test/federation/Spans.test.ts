/** Traces between servers: from the Peer actor to its request, and at the other server from the endpoint to the commit. */
import { assert, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { SamplingRatio } from "@greenroom/actors/runtime/Sampling"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Option, References, Schedule, Tracer } from "effect"
import { isMessage, message, twoHomeServers } from "./support/HomeServers.ts"

/** The names from a span up to the root. */
const path = (span: Tracer.AnySpan): ReadonlyArray<string> =>
  span._tag === "Span" ? [span.name, ...Option.match(span.parent, { onNone: () => [], onSome: path })] : []

it.live(
  "a message is traced from the Peer actor to its request, and at the other server from the endpoint to the commit",
  () =>
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const [red, blue] = yield* twoHomeServers.pipe(
        Effect.provideService(SamplingRatio, 1),
        Effect.provideService(References.TracerEnabled, false),
        Effect.withTracer(tracer)
      )
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const { room_alias, room_id } = yield* red.run(
        Rooms.use((rooms) => rooms.create(alice, { visibility: "public", room_alias_name: "tea" }))
      )
      yield* blue.run(Rooms.use((rooms) => rooms.join(bob, room_alias!)))
      const paths = () => spans.map((span) => path(span).join(" < "))
      const has = (pattern: RegExp) => paths().some((text) => pattern.test(text))
      const sent = /^FederationTransport\.request < .*Peer\.Drain < federation\.send$/
      const received =
        /^EventLog\.append < Room\.Receive < .*TransactionReceiver\.receive < PUT \/\S+\/send\/\S+ < PUT$/
      const send = Effect.fnUntraced(function* (body: string) {
        spans.length = 0
        yield* red.run(Rooms.use((rooms) => rooms.send(alice, room_id, "m.room.message", message(body))))
        yield* blue.sees(bob, isMessage(body))
        yield* Effect.repeat(
          Effect.sync(() => spans.every(({ status }) => status._tag === "Ended")),
          {
            until: (ended) => ended,
            schedule: Schedule.spaced("50 millis")
          }
        )
      })
      // A message that is sent while presence is goes with it, in the trace of that.
      for (const body of ["one", "two", "three"]) if (!has(sent) || !has(received)) yield* send(body)
      assert.isTrue(has(sent), paths().join("\n"))
      assert.isTrue(has(received), paths().join("\n"))
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
  120_000
)
