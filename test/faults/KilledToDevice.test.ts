/**
 * Send-to-device messages arrive exactly once and in order when the server is killed while they are sent, and read by `/sync` and by
 * sliding sync. Clients repeat unanswered requests: a sender with the same transaction ID, a reader with the token of the last answer.
 */
import { assert, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Deferred, Effect, Fiber } from "effect"
import { type Person, restartable, succeeded } from "../support/Scene.ts"
import { randomNumbers, seed } from "../support/Seed.ts"

const senders = 3
const messagesPerSender = 120
const random = randomNumbers(seed)
/** How many requests are answered between two kills. */
const between = [60, 120, 60].map((maximum) => Math.ceil(maximum * (0.5 + random() / 2)))

const v3 = "//_matrix/client/v3"
const slidingSync = "//_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

/** Repeats a request until it is answered. */
const askUntilAnswered = (person: Person, method: string, path: string, data?: unknown) =>
  person.ask(method, path, data).pipe(
    Effect.sandbox,
    Effect.filterOrFail(({ status }) => status < 500),
    Effect.tapError(() => Effect.sleep("50 millis")),
    Effect.eventually
  )

/** What a device has received, and the token of its next request. */
interface Received {
  readonly events: ReadonlyArray<{ readonly sender: string; readonly content: { readonly n: number } }>
  readonly next: string
}

/** Reads from a token; without one, from the beginning. */
type Read = (since: string | undefined, timeout: number) => Effect.Effect<Received>

const bySync =
  (device: Person): Read =>
  (since, timeout) =>
    Effect.map(
      askUntilAnswered(
        device,
        "GET",
        `${v3}/sync?timeout=${timeout}${since === undefined ? "" : `&since=${encodeURIComponent(since)}`}`
      ),
      (answer) => {
        const { next_batch, to_device } = succeeded(answer).body
        return { events: to_device?.events ?? [], next: next_batch }
      }
    )

/** When the server has forgotten the connection, a new one continues with the token of the messages. */
const bySlidingSync = (device: Person): Read => {
  let pos: string | undefined
  const read: Read = Effect.fnUntraced(function* (since, timeout) {
    const query = `timeout=${timeout}${pos === undefined ? "" : `&pos=${encodeURIComponent(pos)}`}`
    const answer = yield* askUntilAnswered(device, "POST", `${slidingSync}?${query}`, {
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

/** Reads all messages, and asserts that no more follow. Returns the numbers by their sender. */
const readAll = Effect.fnUntraced(function* (read: Read, people: ReadonlyArray<Person>) {
  const seen = new Map<string, Array<number>>(people.map(({ userId }) => [userId, []]))
  let since: string | undefined
  for (let count = 0; count < senders * messagesPerSender; ) {
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
    "send-to-device messages arrive once and in order after the server was killed",
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
        const countAnswer = Effect.suspend(() =>
          ++answers >= goal.count ? Deferred.succeed(goal.reached, undefined) : Effect.void
        )
        const sendAll = (person: Person) =>
          Effect.forEach(Array.from({ length: messagesPerSender }), (_, n) =>
            askUntilAnswered(person, "PUT", `${v3}/sendToDevice/m.test/${n}`, {
              messages: {
                [reader.userId]: n % 2 === 0 ? { "*": { n } } : Object.fromEntries(devices.map((id) => [id, { n }]))
              }
            }).pipe(Effect.map(succeeded), Effect.andThen(countAnswer))
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
        const all = Array.from({ length: messagesPerSender }, (_, n) => n)
        for (const seen of yield* Fiber.join(reading)) {
          for (const [sender, numbers] of seen) assert.deepStrictEqual(numbers, all, sender)
        }
      }),
    180_000
  )
})
