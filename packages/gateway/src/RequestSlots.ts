/**
 * How many requests of one user are answered at the same time. A request keeps its slot until its work has ended and the
 * client has received the answer, so that the memory which one user can occupy is bounded. Further requests wait, in order. Where
 * too many wait, they are refused. Counts are in the memory of this node.
 */
import type { ServerResponse } from "node:http"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer } from "effect"

/** `active` at a time, `waiting` beyond that. */
interface Capacity {
  readonly active: number
  readonly waiting: number
}

/** The requests that one user, or one address without a user, may have in flight on this node. */
export const capacities = {
  /** Requests that only read, whose answers may be large. */
  reads: { active: 8, waiting: 500 },
  /** Requests that change something. */
  sends: { active: 64, waiting: 500 },
  /** Long polls, which hold little while they wait. */
  polls: { active: 250, waiting: 0 },
  /** Uploads and downloads, which hold a connection and a file. */
  transfers: { active: 24, waiting: 500 }
} as const satisfies { readonly [kind: string]: Capacity }

/** A kind of request with its own limits. */
export type SlotKind = keyof typeof capacities

/** The place of one request in the queue of its user. */
export interface Slot {
  /** Waits until the request has the slot. Errors: M_LIMIT_EXCEEDED if too many wait. */
  readonly admission: Effect.Effect<void, LimitExceeded>
  /** Gives the slot back, whether the request has had it or not. May be called again. */
  readonly end: () => void
}

/** The requests of one kind of one user. */
class Queue {
  active = 0
  /** What starts the requests that wait; undefined before the first. */
  waiting: Set<() => void> | undefined
}

/** After how many ms a refused client may try again. */
const retryAfter = 1_000

const tooMany = new LimitExceeded({ error: "Too many requests at a time, try again later", retry_after_ms: retryAfter })

/** Bounds the requests that each user has in flight. */
export class RequestSlots extends Context.Service<
  RequestSlots,
  {
    /** Joins the queue. `key` is a user ID or an address. */
    readonly enter: (kind: SlotKind, key: string) => Slot
  }
>()("greenroom/gateway/RequestSlots") {
  static readonly layer: Layer.Layer<RequestSlots> = Layer.sync(RequestSlots, () => {
    const queues: { readonly [K in SlotKind]: Map<string, Queue> } = {
      reads: new Map(),
      sends: new Map(),
      polls: new Map(),
      transfers: new Map()
    }
    return RequestSlots.of({ enter: (kind, key) => enterQueue(queues[kind], key, capacities[kind]) })
  })
}

const enterQueue = (queues: Map<string, Queue>, key: string, capacity: Capacity): Slot => {
  const queue = queues.get(key) ?? new Queue()
  queues.set(key, queue)
  return queue.active < capacity.active ? startAtOnce(queues, key, queue) : waitInQueue(queues, key, queue, capacity)
}

/** Passes a slot on, or gives it back. */
const leave = (queues: Map<string, Queue>, key: string, queue: Queue): void => {
  for (const start of queue.waiting ?? []) {
    queue.waiting?.delete(start)
    start()
    return
  }
  queue.active--
  if (queue.active === 0) queues.delete(key)
}

/** A slot that a request has at once, as nearly all have. */
class StartedSlot implements Slot {
  readonly admission = Effect.void
  private ended = false
  private readonly queues: Map<string, Queue>
  private readonly key: string
  private readonly queue: Queue

  constructor(queues: Map<string, Queue>, key: string, queue: Queue) {
    this.queues = queues
    this.key = key
    this.queue = queue
  }

  end(): void {
    if (!this.ended) leave(this.queues, this.key, this.queue)
    this.ended = true
  }
}

const startAtOnce = (queues: Map<string, Queue>, key: string, queue: Queue): Slot => {
  queue.active++
  return new StartedSlot(queues, key, queue)
}

const waitInQueue = (queues: Map<string, Queue>, key: string, queue: Queue, capacity: Capacity): Slot => {
  queue.waiting ??= new Set()
  const { waiting } = queue
  if (waiting.size >= capacity.waiting) return { admission: Effect.fail(tooMany), end: () => {} }
  let started = false
  let ended = false
  let resume = () => {}
  const start = () => {
    started = true
    resume()
  }
  waiting.add(start)
  return {
    admission: Effect.callback((done) => {
      if (started) return done(Effect.void)
      resume = () => done(Effect.void)
    }),
    end: () => {
      if (ended) return
      ended = true
      if (started) leave(queues, key, queue)
      else waiting.delete(start)
    }
  }
}

const nothing = () => Effect.void

/** Runs the work of a request in its slot, which ends when the work has ended and the response is closed. `after` follows the work. */
export const withSlot = <A, E, R>(
  slot: Slot,
  response: ServerResponse,
  work: Effect.Effect<A, E, R>,
  after: () => Effect.Effect<void> = nothing
): Effect.Effect<A, E | LimitExceeded, R> => {
  let open = 2
  const release = () => {
    if (--open === 0) slot.end()
  }
  if (response.closed) release()
  else response.on("close", release)
  // Changes that have begun run to their end when their client disconnects. Those that wait do not begin.
  const whole = slot.admission === Effect.void ? work : Effect.flatMap(Effect.interruptible(slot.admission), () => work)
  return Effect.onExit(whole, () => {
    release()
    return after()
  })
}
