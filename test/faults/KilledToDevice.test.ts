/**
 * Messages to devices arrive exactly once and in order, although the server is killed while they are sent and read. Clients
 * repeat what was not answered: a sender with the same transaction ID, a reader with the token of the last answer.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { freePort } from "../support/FreePort.ts"
import { type Person, restartable, succeeded } from "../support/Scene.ts"

const senders = 3
const each = 120
/** How many answers come between two kills. */
const between = [60, 120, 60]

const v3 = "//_matrix/client/v3"

/** Asks again until there is an answer. */
const surely = (person: Person, method: string, path: string, data?: unknown) =>
  person.ask(method, path, data).pipe(
    Effect.sandbox,
    Effect.filterOrFail(({ status }) => status < 500),
    Effect.tapError(() => Effect.sleep("50 millis")),
    Effect.eventually
  )

describe("KilledToDevice", () => {
  it.live(
    "messages to a device arrive once and in order",
    () =>
      Effect.gen(function* () {
        const start = yield* restartable()
        const port = yield* freePort
        const { gateway: first, register } = yield* start(port)
        let gateway = first
        const reader = yield* register("reader")
        const people = yield* Effect.forEach(Array.from({ length: senders }), (_, index) => register(`sender${index}`))
        const whoami = yield* reader.ask("GET", `${v3}/account/whoami`)
        const device: string = succeeded(whoami).body.device_id

        let answers = 0
        let goal = { count: between[0]!, reached: yield* Deferred.make<void>() }
        const answered = Effect.suspend(() =>
          ++answers >= goal.count ? Deferred.succeed(goal.reached, undefined) : Effect.void
        )
        const sendAll = (person: Person) =>
          Effect.forEach(Array.from({ length: each }), (_, n) =>
            surely(person, "PUT", `${v3}/sendToDevice/m.test/${n}`, {
              messages: { [reader.userId]: { [n % 2 === 0 ? "*" : device]: { n } } }
            }).pipe(Effect.map(succeeded), Effect.andThen(answered))
          )
        const seen = new Map<string, Array<number>>(people.map(({ userId }) => [userId, []]))
        const readAll = Effect.gen(function* () {
          let since = ""
          let count = 0
          while (count < senders * each) {
            const { body } = succeeded(yield* surely(reader, "GET", `${v3}/sync?timeout=5000${since}`))
            for (const { content, sender } of body.to_device?.events ?? []) {
              seen.get(sender)?.push(content.n)
              count++
            }
            since = `&since=${encodeURIComponent(body.next_batch)}`
          }
          const { body } = succeeded(yield* surely(reader, "GET", `${v3}/sync?timeout=0${since}`))
          assert.deepStrictEqual(body.to_device?.events ?? [], [])
        })
        const reading = yield* Effect.forkChild(readAll)
        const sending = yield* Effect.forkChild(Effect.forEach(people, sendAll, { concurrency: "unbounded" }))
        for (const more of [...between.slice(1), undefined]) {
          yield* Deferred.await(goal.reached)
          yield* gateway.kill
          goal = { count: answers + (more ?? Number.POSITIVE_INFINITY), reached: yield* Deferred.make<void>() }
          gateway = (yield* start(port)).gateway
        }
        yield* Fiber.join(sending)
        yield* Fiber.join(reading)
        const all = Array.from({ length: each }, (_, n) => n)
        for (const [sender, numbers] of seen) assert.deepStrictEqual(numbers, all, sender)
      }),
    180_000
  )
})
