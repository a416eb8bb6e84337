/**
 * Messages to devices arrive exactly once and in order, although the server is killed at any moment while they are sent and read,
 * by `/sync` and by sliding sync. Clients repeat what was not answered: a sender with the same transaction ID, a reader with the
 * token of the last answer.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { freePort } from "../support/FreePort.ts"
import { type Person, restartable, succeeded } from "../support/Scene.ts"

const senders = 3
const each = 120
/** How many answers come between two kills. */
const between = [60, 120, 60].map((most) => Math.ceil(most * (0.5 + Math.random() / 2)))

const v3 = "//_matrix/client/v3"
const slidingSync = "//_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

/** Asks again until there is an answer. */
const surely = (person: Person, method: string, path: string, data?: unknown) =>
  person.ask(method, path, data).pipe(
    Effect.sandbox,
    Effect.filterOrFail(({ status }) => status < 500),
    Effect.tapError(() => Effect.sleep("50 millis")),
    Effect.eventually
  )

/** What a device has received, and the token of its next request. */
interface News {
  readonly events: ReadonlyArray<{ readonly sender: string; readonly content: { readonly n: number } }>
  readonly next: string
}

/** Reads on from a token; without one, from the beginning. */
type Read = (since: string | undefined, timeout: number) => Effect.Effect<News>

const bySync =
  (device: Person): Read =>
  (since, timeout) =>
    Effect.map(
      surely(
        device,
        "GET",
        `${v3}/sync?timeout=${timeout}${since === undefined ? "" : `&since=${encodeURIComponent(since)}`}`
      ),
      (answer) => {
        const { next_batch, to_device } = succeeded(answer).body
        return { events: to_device?.events ?? [], next: next_batch }
      }
    )

/** A connection that the server has forgotten begins anew, with the token of the messages. */
const bySlidingSync = (device: Person): Read => {
  let pos: string | undefined
  const read: Read = Effect.fnUntraced(function* (since, timeout) {
    const query = `timeout=${timeout}${pos === undefined ? "" : `&pos=${encodeURIComponent(pos)}`}`
    const answer = yield* surely(device, "POST", `${slidingSync}?${query}`, {
      conn_id: "encryption",
      extensions: { to_device: { enabled: true, ...(since === undefined ? {} : { since }) } }
    })
    if (answer.body.errcode === "M_UNKNOWN_POS") {
      pos = undefined
      return yield* read(since, timeout)
    }
    const { body } = succeeded(answer)
    pos = body.pos
    const { events = [], next_batch } = body.extensions.to_device
    return { events, next: next_batch }
  })
  return read
}

/** Reads as many messages as there are, and sees that there are no more: the numbers by their sender. */
const readAll = Effect.fnUntraced(function* (read: Read, people: ReadonlyArray<Person>) {
  const seen = new Map<string, Array<number>>(people.map(({ userId }) => [userId, []]))
  let since: string | undefined
  for (let count = 0; count < senders * each; ) {
    const { events, next } = yield* read(since, 5_000)
    for (const { content, sender } of events) seen.get(sender)?.push(content.n)
    count += events.length
    since = next
  }
  assert.deepStrictEqual((yield* read(since, 0)).events, [])
  return seen
})

describe("KilledToDevice", () => {
  it.live(
    "messages to a device arrive once and in order",
    () =>
      Effect.gen(function* () {
        const start = yield* restartable()
        const port = yield* freePort
        const firstScene = yield* start(port)
        const { register } = firstScene
        let { gateway } = firstScene
        const reader = yield* register("reader")
        const people = yield* Effect.forEach(Array.from({ length: senders }), (_, index) => register(`sender${index}`))
        const login = { type: "m.login.password", user: reader.userId, password: "secret of reader" }
        const sliding = firstScene.person(succeeded(yield* reader.ask("POST", `${v3}/login`, login)).body)
        const devices = yield* Effect.forEach([reader, sliding], (device) =>
          Effect.map(device.ask("GET", `${v3}/account/whoami`), (answer): string => succeeded(answer).body.device_id)
        )

        let answers = 0
        let goal = { count: between[0]!, reached: yield* Deferred.make<void>() }
        const answered = Effect.suspend(() =>
          ++answers >= goal.count ? Deferred.succeed(goal.reached, undefined) : Effect.void
        )
        const sendAll = (person: Person) =>
          Effect.forEach(Array.from({ length: each }), (_, n) =>
            surely(person, "PUT", `${v3}/sendToDevice/m.test/${n}`, {
              messages: {
                [reader.userId]: n % 2 === 0 ? { "*": { n } } : Object.fromEntries(devices.map((id) => [id, { n }]))
              }
            }).pipe(Effect.map(succeeded), Effect.andThen(answered))
          )
        const reading = yield* Effect.forkChild(
          Effect.forEach([bySync(reader), bySlidingSync(sliding)], (read) => readAll(read, people), {
            concurrency: "unbounded"
          })
        )
        const sending = yield* Effect.forkChild(Effect.forEach(people, sendAll, { concurrency: "unbounded" }))
        for (const more of [...between.slice(1), undefined]) {
          yield* Deferred.await(goal.reached)
          yield* gateway.kill
          goal = { count: answers + (more ?? Number.POSITIVE_INFINITY), reached: yield* Deferred.make<void>() }
          gateway = (yield* start(port)).gateway
        }
        yield* Fiber.join(sending)
        const all = Array.from({ length: each }, (_, n) => n)
        for (const seen of yield* Fiber.join(reading)) {
          for (const [sender, numbers] of seen) assert.deepStrictEqual(numbers, all, sender)
        }
      }),
    180_000
  )
})
