/**
 * Clients that send and follow while nodes start, stop, pause or are cut off, and the checks afterwards: no acknowledged event is lost
 * or duplicated, no event forks the room, and followers received everything in order.
 */

import { PgConnection } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, type Redacted, Schedule } from "effect"
import type { Body } from "../../support/Curl.ts"
import { type Person, type Scene, succeeded } from "../../support/Scene.ts"
import { at } from "./Cluster.ts"
import { type History, type Message, violations } from "./History.ts"
import { followBySocket } from "./SocketFollower.ts"

/** The text of the last message, after which followers stop. */
const lastText = "That is all"

/** The timeout of a request, after which it is repeated. */
const requestTimeout = "15 seconds"

const repeatedStatuses = new Set([429, 502, 503, 504])

/** Repeats a request until the answer is neither 429, 502, 503, 504, a timeout nor a broken connection. */
export const persistently = (ask: () => ReturnType<Person["ask"]>): ReturnType<Person["ask"]> =>
  Effect.flatMap(Effect.exit(Effect.timeout(Effect.suspend(ask), requestTimeout)), (exit) =>
    Exit.isSuccess(exit) && !repeatedStatuses.has(exit.value.status)
      ? Effect.succeed(exit.value)
      : Effect.delay(
          Effect.suspend(() => persistently(ask)),
          "100 millis"
        )
  )

/** The messages of a room. Events of /sync have no room_id. */
const toMessages = (room: string, events: ReadonlyArray<Body>): ReadonlyArray<Message> =>
  events.flatMap((event) =>
    event.type === "m.room.message" && (event.room_id ?? room) === room
      ? [{ eventId: event.event_id, text: event.content.body }]
      : []
  )

export interface Workload {
  /** The event IDs that were returned to the sender, by the text of the message. */
  readonly acknowledged: ReadonlyMap<string, string>
  /** The longest time in which no message was acknowledged since the last call, in ms. */
  readonly takeLongestPause: () => number
  /** Waits until this number of further messages is acknowledged. */
  readonly more: (count: number) => Effect.Effect<void>
  /** Stops the senders, and asserts that the followers have received everything. */
  readonly finish: Effect.Effect<History>
}

export interface WorkloadOptions {
  readonly room: string
  /** The user of the senders, which use the nodes in turn. */
  readonly sender: Person
  readonly followers: ReadonlyArray<Person>
  /** The nodes that clients can reach now. */
  readonly entries: () => ReadonlyArray<Scene>
  readonly senders?: number
  /** Followers at another home server. */
  readonly elsewhere?: ReadonlyArray<Person>
  /** Followers by `/sync`, by sliding sync, and by a socket. */
  readonly syncing?: ReadonlyArray<Person>
  readonly sliding?: ReadonlyArray<Person>
  readonly onSockets?: ReadonlyArray<Person>
  /** The pause of a sender between two messages. Default: 20 ms. */
  readonly pause?: Duration.Input
}

/** Starts the senders and the followers. */
export const begin = Effect.fnUntraced(function* (options: WorkloadOptions) {
  const { elsewhere = [], entries, followers, onSockets = [], pause = "20 millis", room, sender, senders = 3 } = options
  const path = `/rooms/${encodeURIComponent(room)}`
  const acknowledged = new Map<string, string>()
  const waiting = new Set<{ readonly count: number; readonly resume: () => void }>()
  let isOver = false
  let lastAcknowledged = performance.now()
  let longestPause = 0
  let turn = 0
  /** The user at the next node. */
  const next = (person: Person) => {
    const nodes = entries()
    return at(nodes[turn++ % nodes.length]!, person)
  }
  const anywhere = (person: Person, method: string, path: string, data?: unknown) =>
    persistently(() => next(person).ask(method, path, data))

  const onAcknowledged = (text: string, { body }: { readonly body: Body }) => {
    acknowledged.set(text, body.event_id)
    longestPause = Math.max(longestPause, performance.now() - lastAcknowledged)
    lastAcknowledged = performance.now()
    for (const waiter of waiting) if (acknowledged.size >= waiter.count) waiter.resume()
  }
  const send = (text: string) =>
    Effect.map(
      anywhere(sender, "PUT", `${path}/send/m.room.message/${text.replaceAll(" ", "-")}`, {
        msgtype: "m.text",
        body: text
      }),
      (answer) => onAcknowledged(text, succeeded(answer))
    )
  /** A request without a transaction ID is not repeated. If it fails, the message may be in the room or not. */
  const sendOnce = (text: string) =>
    Effect.map(
      Effect.exit(
        Effect.timeout(
          Effect.suspend(() =>
            next(sender).ask("POST", `${path}/send/m.room.message`, { msgtype: "m.text", body: text })
          ),
          requestTimeout
        )
      ),
      (exit) => {
        if (Exit.isSuccess(exit) && exit.value.status === 200) onAcknowledged(text, exit.value)
      }
    )
  const sendRepeatedly = (number: number) =>
    Effect.gen(function* () {
      for (let i = 0; !isOver; i++) {
        yield* Effect.delay(i % 8 === 7 ? sendOnce(`${number}.${i} once`) : send(`${number}.${i}`), pause)
      }
    })

  const follow = Effect.fnUntraced(function* (ask: (path: string) => ReturnType<Person["ask"]>, from: string) {
    const received: Array<Message> = []
    for (let since = from; received.at(-1)?.text !== lastText; ) {
      const { body } = succeeded(yield* ask(`/events?from=${since}&timeout=5000`))
      received.push(...toMessages(room, body.chunk))
      since = body.end
    }
    return received
  })
  const filter = encodeURIComponent(JSON.stringify({ room: { timeline: { limit: 1_000 } } }))
  const followBySync = Effect.fnUntraced(function* (person: Person) {
    const sync = (query: string) =>
      Effect.map(anywhere(person, "GET", `//_matrix/client/v3/sync?filter=${filter}&${query}`), succeeded)
    const received: Array<Message> = []
    let since: string = (yield* sync("timeout=0")).body.next_batch
    return yield* Effect.forkScoped(
      Effect.gen(function* () {
        while (received.at(-1)?.text !== lastText) {
          const { body } = yield* sync(`since=${since}&timeout=5000`)
          received.push(...toMessages(room, body.rooms?.join?.[room]?.timeline.events ?? []))
          since = body.next_batch
        }
        return received
      })
    )
  })
  const slidingSync = "//_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
  const subscription = { conn_id: "load", room_subscriptions: { [room]: { timeline_limit: 100, required_state: [] } } }
  const followBySliding = Effect.fnUntraced(function* (person: Person) {
    const slide = (pos: string | undefined, timeout: number) => {
      const from = pos === undefined ? "" : `&pos=${encodeURIComponent(pos)}`
      return anywhere(person, "POST", `${slidingSync}?timeout=${timeout}${from}`, subscription)
    }
    const received: Array<Message> = []
    /** The messages before a position, back to a known one. */
    const fill = Effect.fnUntraced(function* (from: string, known: ReadonlySet<string>) {
      let found: ReadonlyArray<Message> = []
      for (let at: string | undefined = from; at !== undefined; ) {
        const page = `//_matrix/client/v3${path}/messages?dir=b&limit=100&from=${encodeURIComponent(at)}`
        const { body } = succeeded(yield* anywhere(person, "GET", page))
        const messages = toMessages(room, body.chunk)
        const end = messages.findIndex(({ eventId }) => known.has(eventId))
        found = [...messages.slice(0, end < 0 ? undefined : end).reverse(), ...found]
        at = end < 0 ? body.end : undefined
      }
      return found
    })
    let pos: string | undefined = succeeded(yield* slide(undefined, 0)).body.pos
    return yield* Effect.forkScoped(
      Effect.gen(function* () {
        while (received.at(-1)?.text !== lastText) {
          const answer = yield* slide(pos, 5_000)
          // The server may forget a connection. The client begins again, and receives messages that it has.
          const isForgotten = answer.status === 400 && answer.body.errcode === "M_UNKNOWN_POS"
          const { body } = isForgotten ? succeeded(yield* slide(undefined, 0)) : succeeded(answer)
          const known = new Set(received.map(({ eventId }) => eventId))
          const { limited = false, prev_batch, timeline = [] } = body.rooms?.[room] ?? {}
          const found = toMessages(room, timeline)
          // After a gap the client reads the missing messages. After a new beginning it skips those that it has.
          const overlaps = isForgotten && found.some(({ eventId }) => known.has(eventId))
          if (limited && !overlaps) received.push(...(yield* fill(prev_batch, known)))
          received.push(...found.filter(({ eventId }) => !isForgotten || !known.has(eventId)))
          pos = body.pos
        }
        return received
      })
    )
  })
  const everywhere = (person: Person) => (path: string) => anywhere(person, "GET", path)
  const there = (person: Person) => (path: string) => persistently(() => person.ask("GET", path))

  const { end } = succeeded(yield* everywhere(sender)("/events?timeout=0")).body
  const following = yield* Effect.forEach(followers, (person) => Effect.forkScoped(follow(everywhere(person), end)))
  const followingElsewhere = yield* Effect.forEach(
    elsewhere,
    Effect.fnUntraced(function* (person) {
      const { body } = succeeded(yield* there(person)("/events?timeout=0"))
      return yield* Effect.forkScoped(follow(there(person), body.end))
    })
  )
  const syncing = [
    ...(yield* Effect.forEach(options.syncing ?? [], followBySync)),
    ...(yield* Effect.forEach(options.sliding ?? [], followBySliding))
  ]
  const sockets = yield* Effect.forEach(onSockets, ({ token }) =>
    Effect.forkScoped(
      followBySocket({
        url: () => entries()[turn++ % entries().length]!.gateway.url,
        token,
        from: end,
        read: (events) => toMessages(room, events),
        isLast: ({ text }) => text === lastText
      })
    )
  )
  const sending = yield* Effect.forEach(
    Array.from({ length: senders }, (_, i) => i),
    (i) => Effect.forkScoped(sendRepeatedly(i))
  )

  const finish = Effect.gen(function* () {
    isOver = true
    for (const fiber of sending) yield* Fiber.join(fiber)
    yield* send(lastText)
    const received = yield* Effect.forEach([...following, ...followingElsewhere, ...syncing, ...sockets], (fiber) =>
      Fiber.join(fiber)
    )
    const history: Array<Message> = []
    for (let from = end, more = true; more; ) {
      const { body } = succeeded(yield* anywhere(sender, "GET", `${path}/messages?from=${from}&dir=f&limit=100`))
      history.push(...toMessages(room, body.chunk))
      more = body.chunk.length > 0
      from = body.end
    }
    const found: History = { acknowledged, room: history, followers: received }
    assert.deepStrictEqual(violations(found), [])
    return found
  })

  const more = (count: number) =>
    Effect.callback<void>((resume) => {
      const waiter = { count: acknowledged.size + count, resume: () => resume(Effect.void) }
      waiting.add(waiter)
      return Effect.sync(() => waiting.delete(waiter))
    })

  const takeLongestPause = () => {
    const taken = longestPause
    longestPause = 0
    return taken
  }

  return { acknowledged, takeLongestPause, more, finish } satisfies Workload
})

/** Runs a query on the database. */
export const query = (url: Redacted.Redacted, text: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url, prepare: false }), (connection) =>
      Effect.map(connection.query(text), ({ rows }) => rows as ReadonlyArray<Body>)
    )
  ).pipe(Effect.orDie)

/** Asserts that no two events of a room of one home server have the same predecessor. */
export const mustHaveNoFork = Effect.fnUntraced(function* (databaseUrl: Redacted.Redacted, room: string) {
  const rows = yield* query(databaseUrl, "SELECT body FROM events")
  const events = rows.map(({ body }) => JSON.parse(body)).filter(({ room_id }: Body) => room_id === room)
  const followed = events.flatMap(({ prev_events }: Body) =>
    prev_events.map((body: Body) => (Array.isArray(body) ? body[0] : body))
  )
  assert.isAbove(events.length, 10)
  assert.strictEqual(new Set(followed).size, followed.length, "Two events have the same predecessor")
})

/** Asserts that another home server has received no PDU in two transactions. */
export const mustHaveDeliveredOnce = Effect.fnUntraced(function* (databaseUrl: Redacted.Redacted) {
  const rows = yield* query(databaseUrl, "SELECT answer FROM received_transactions")
  const pdus = rows.flatMap(({ answer }) => Object.keys(JSON.parse(answer).pdus ?? JSON.parse(answer)))
  assert.isAbove(pdus.length, 10)
  assert.deepStrictEqual(
    pdus.filter((pdu, index) => pdus.indexOf(pdu) !== index),
    []
  )
})

/** Waits until `/health` of all nodes answers 200. */
export const untilHealthy = (nodes: ReadonlyArray<Scene>) =>
  Effect.forEach(nodes, (node) => persistently(() => node.ask("GET", "//health")), {
    concurrency: "unbounded",
    discard: true
  }).pipe(Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => Effect.die("Not healthy within 30 s") }))

/** Returns an effect that waits until 50 shards have moved to other nodes since now. */
export const movedShards = Effect.fnUntraced(function* (databaseUrl: Redacted.Redacted) {
  const raised = Effect.map(query(databaseUrl, "SELECT sum(fence)::integer AS raised FROM shard_fences"), (rows) =>
    Number(rows[0].raised)
  )
  const before = yield* raised
  return Effect.repeat(raised, { until: (now) => now >= before + 50, schedule: Schedule.spaced("200 millis") })
})
