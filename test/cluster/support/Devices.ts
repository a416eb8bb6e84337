/**
 * To-device messages and one-time keys while nodes start and stop: each message arrives once and in order, by `/sync` and by sliding sync,
 * and each key is claimed once.
 */
import { assert } from "@effect/vitest"
import { type Duration, Effect, Fiber } from "effect"
import { type Person, type Scene, succeeded } from "../../support/Scene.ts"
import { at } from "./Cluster.ts"
import { persistently } from "./Workload.ts"

export interface DevicesOptions {
  readonly sender: Person
  /** A device that uses `/sync`, and another device of the same user that uses sliding sync. */
  readonly receiver: Person
  readonly sliding: Person
  /** The nodes that clients can reach now. */
  readonly entries: () => ReadonlyArray<Scene>
  readonly pause: Duration.Input
}

const algorithm = "signed_curve25519"

const duplicates = (values: ReadonlyArray<string>): ReadonlyArray<string> =>
  values.filter((value, index) => values.indexOf(value) !== index)

/** Starts sending, receiving and claiming. The returned effect stops it, asserts that all is correct, and returns the counts. */
export const beginDevices = Effect.fnUntraced(function* ({
  entries,
  pause,
  receiver,
  sender,
  sliding
}: DevicesOptions) {
  let turn = 0
  let isOver = false
  /** Whether the last message is acknowledged. */
  let isSent = false
  let sent = 0
  const [bySync, bySliding]: [Array<number>, Array<number>] = [[], []]
  const claimed: Array<string> = []

  /** Sends a request to the nodes in turn. */
  const anywhere = (person: Person, method: string, path: string, data?: unknown) =>
    persistently(() => {
      const nodes = entries()
      return at(nodes[turn++ % nodes.length]!, person).ask(method, `//_matrix/client/${path}`, data)
    })
  const ask = (person: Person, method: string, path: string, data?: unknown) =>
    Effect.map(anywhere(person, method, `v3${path}`, data), succeeded)
  const deviceOf = (person: Person) =>
    Effect.map(ask(person, "GET", "/account/whoami"), ({ body }): string => body.device_id)
  const device = yield* deviceOf(receiver)
  const other = yield* deviceOf(sliding)

  const send = Effect.gen(function* () {
    for (let n = 0; !isOver; n++) {
      yield* ask(sender, "PUT", `/sendToDevice/org.example.test/${n}`, {
        messages: { [receiver.userId]: { [device]: { n }, [other]: { n } } }
      })
      sent = n + 1
      yield* Effect.sleep(pause)
    }
    isSent = true
  })

  const claim = Effect.gen(function* () {
    for (let n = 0; !isOver; n++) {
      const names = [0, 1, 2].map((i) => `${algorithm}:k${n}x${i}`)
      const keys = Object.fromEntries(names.map((name) => [name, { key: name }]))
      yield* ask(receiver, "POST", "/keys/upload", { one_time_keys: keys })
      const wanted = { one_time_keys: { [receiver.userId]: { [device]: algorithm } } }
      const answers = yield* Effect.forEach([0, 1], () => ask(sender, "POST", "/keys/claim", wanted), {
        concurrency: 2
      })
      for (const { body } of answers) claimed.push(...Object.keys(body.one_time_keys[receiver.userId]?.[device] ?? {}))
      yield* Effect.sleep(pause)
    }
  })

  const receive = Effect.gen(function* () {
    for (let since = ""; !isSent || bySync.length < sent; ) {
      const { body } = yield* ask(receiver, "GET", `/sync?timeout=2000${since}`)
      since = `&since=${encodeURIComponent(body.next_batch)}`
      for (const { content } of body.to_device?.events ?? []) bySync.push(content.n)
    }
  })

  const receiveSliding = Effect.gen(function* () {
    let [pos, since]: [string | undefined, string | undefined] = [undefined, undefined]
    while (!isSent || bySliding.length < sent) {
      const query = `timeout=2000${pos === undefined ? "" : `&pos=${encodeURIComponent(pos)}`}`
      const answer = yield* anywhere(sliding, "POST", `unstable/org.matrix.simplified_msc3575/sync?${query}`, {
        conn_id: "devices",
        extensions: { to_device: { enabled: true, ...(since === undefined ? {} : { since }) } }
      })
      // The server may forget a connection. The messages stay.
      if (answer.body.errcode === "M_UNKNOWN_POS") {
        pos = undefined
        continue
      }
      const { body } = succeeded(answer)
      pos = body.pos
      since = body.extensions.to_device.next_batch
      for (const { content } of body.extensions.to_device.events ?? []) bySliding.push(content.n)
    }
  })

  const fibers = yield* Effect.forEach([send, claim, receive, receiveSliding], (work) => Effect.forkScoped(work))
  return Effect.gen(function* () {
    isOver = true
    for (const fiber of fibers) yield* Fiber.join(fiber)
    const all = Array.from({ length: sent }, (_, n) => n)
    assert.deepStrictEqual(bySync, all, "Messages to a device were lost, doubled or out of order")
    assert.deepStrictEqual(bySliding, all, "Messages to a device with sliding sync were lost, doubled or out of order")
    assert.deepStrictEqual(duplicates(claimed), [], "A one-time key was claimed twice")
    return { messages: sent, keys: claimed.length }
  })
})
