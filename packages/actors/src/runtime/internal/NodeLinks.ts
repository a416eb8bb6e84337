/**
 * Connections between nodes for messages to actors, beside those of Effect's cluster, whose bookkeeping of a message on both sides
 * costs more than what an actor does. Where a message goes is decided by Effect all the same: a link leads to the node that
 * answered for the shard last, and what it does not answer is sent on Effect's way. So are messages that are traced, and those for
 * nodes of a version without links.
 *
 * A link is a connection of its own to the port of the cluster, named by its protocol of the application layer (ALPN). Both sides
 * write lines of JSON: arrays of messages, and arrays of their answers as they are ready (`ActorMessages`). An empty array asks
 * whether the node is there, and is the answer.
 *
 * All messages run to their end, even if their sender is lost: those that take long may be repeated.
 */
import type * as net from "node:net"
import type * as tls from "node:tls"
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { Clock, Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import type { RunnerAddress, ShardId } from "effect/cluster"
import { type Rpc, RpcSerialization } from "effect/rpc"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { type Answer, makeAnswering, makeCodecs, outcomes, type Row } from "./ActorMessages.ts"
import type { Handled } from "./Actors.ts"
import { keyOf } from "./nodeKey.ts"
import { Receivers } from "./RemoteActors.ts"

/** The name of the protocol. */
const protocol = "greenroom/1"

/** The time after which a line is not sent any more, in ms: the process was stopped between two turns of its event loop. */
const maxLineAge = 3_000
/** How many characters of messages wait for the end of the turn at most. */
const maxWaitingCharacters = 1024 * 1024
/** The longest line, in characters: the state of a large room. */
const maxLine = 256 * 1024 * 1024
/** The interval of pings to a node that owes an answer, in ms, and how many pings may stay unanswered. */
const pingInterval = 2_000
const maxSilentPings = 2
/** The time after which a failed connection to a node is tried again, in ms, and one to a node of a version without links. */
const retryAfter = 1_000
const olderFor = 60_000

/** Calls `onLine` with what each line of a socket holds. One that cannot be read ends the connection. */
const readLines = <A>(socket: net.Socket, onLine: (rows: ReadonlyArray<A>) => void): void => {
  const take = (line: string) => {
    try {
      onLine(JSON.parse(line) as ReadonlyArray<A>)
    } catch {
      socket.destroy()
    }
  }
  let parts: Array<string> = []
  let length = 0
  socket.setEncoding("utf8")
  socket.on("data", (chunk: string) => {
    let from = 0
    for (let end = chunk.indexOf("\n"); end >= 0; end = chunk.indexOf("\n", from)) {
      const line = parts.join("") + chunk.slice(from, end)
      from = end + 1
      parts = []
      length = 0
      take(line)
    }
    if (from === chunk.length) return
    parts.push(chunk.slice(from))
    length += chunk.length - from
    if (length > maxLine) socket.destroy()
  })
}

/** Rows that go together at the end of the turn of the event loop. */
class Lines {
  private readonly socket: net.Socket
  private readonly clock: Clock.Clock
  private readonly maxAge: number
  private rows: Array<string> = []
  private characters = 0
  private begun = 0

  /** A line that is older than `maxAge` is not written, in ms: the connection is given up instead. */
  constructor(socket: net.Socket, clock: Clock.Clock, maxAge = Number.POSITIVE_INFINITY) {
    this.socket = socket
    this.clock = clock
    this.maxAge = maxAge
  }

  add(row: string): void {
    if (this.rows.length === 0) this.begun = monotonicMillisUnsafe(this.clock)
    this.rows.push(row)
    this.characters += row.length
    if (this.characters > maxWaitingCharacters) this.flush()
    else if (this.rows.length === 1) setImmediate(() => this.flush())
  }

  private flush(): void {
    if (this.rows.length === 0) return
    const line = `[${this.rows.join(",")}]\n`
    this.rows = []
    this.characters = 0
    if (monotonicMillisUnsafe(this.clock) - this.begun > this.maxAge) this.socket.destroy()
    else this.socket.write(line)
  }
}

/** A message that waits for its answer. */
interface Waiting {
  readonly answer: (answer: Answer) => void
  /** No answer will come. */
  readonly fail: () => void
}

/** The side that sends messages. */
class Link {
  private readonly socket: net.Socket
  private readonly lines: Lines
  private readonly waiting = new Map<number, Waiting>()
  private next = 0
  private silentPings = 0
  private pinging: NodeJS.Timeout | undefined

  constructor(socket: net.Socket, clock: Clock.Clock, onEnd: () => void) {
    this.socket = socket
    this.lines = new Lines(socket, clock, maxLineAge)
    readLines<Answer>(socket, (answers) => this.receive(answers))
    socket.once("close", () => {
      onEnd()
      this.end()
    })
  }

  /** Sends a message at the end of the turn. Returns its number, by which it can be forgotten. */
  send(row: (number: number) => string, waiting: Waiting): number {
    const number = this.next++
    this.waiting.set(number, waiting)
    this.lines.add(row(number))
    this.pinging ??= setTimeout(() => this.ping(), pingInterval)
    return number
  }

  forget(number: number): void {
    this.waiting.delete(number)
  }

  destroy(): void {
    this.socket.destroy()
  }

  private receive(answers: ReadonlyArray<Answer>): void {
    this.silentPings = 0
    for (const answer of answers) {
      const waiting = this.waiting.get(answer[0])
      this.waiting.delete(answer[0])
      waiting?.answer(answer)
    }
  }

  private ping(): void {
    this.pinging = undefined
    if (this.waiting.size === 0) {
      this.silentPings = 0
      return
    }
    this.silentPings++
    // An answer that has arrived while this process was held up is read first.
    if (this.silentPings > maxSilentPings) setImmediate(() => this.silentPings > maxSilentPings && this.destroy())
    this.socket.write("[]\n")
    this.pinging = setTimeout(() => this.ping(), pingInterval)
  }

  private end(): void {
    clearTimeout(this.pinging)
    const unanswered = Array.from(this.waiting.values())
    this.waiting.clear()
    for (const { fail } of unanswered) fail()
  }
}

/** A message to an actor. */
interface ActorMessage {
  readonly shard: ShardId.ShardId
  readonly type: string
  readonly id: string
  readonly rpc: Rpc.AnyWithProps
  readonly payload: unknown
  /** How long the answer may take, in ms. */
  readonly within: number
  /** In how many ms the message expires (`handledWithin`). */
  readonly expiresIn: number
  /** The answer where the link gives none: `isUnanswered` where it is not known whether the message was handled. */
  readonly otherwise: (isUnanswered: boolean) => Handled
}

const make = Effect.fnUntraced(function* (
  connect: (address: RunnerAddress.RunnerAddress) => Effect.Effect<tls.TLSSocket, unknown, Scope.Scope>
) {
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<Scope.Scope>()
  const scope = Context.get(context, Scope.Scope)
  const { codecFor } = yield* RpcSerialization.RpcSerialization
  const receivers = yield* Receivers
  const codecsOf = makeCodecs(codecFor)
  const run = (effect: Effect.Effect<unknown, unknown, Scope.Scope>) =>
    Fiber.runIn(Effect.runForkWith(context)(Effect.exit(effect)), scope)

  // Sending

  /** The node that answered for a shard last. */
  const answering = new Map<ShardId.ShardId, RunnerAddress.RunnerAddress>()
  const links = new Map<string, Link>()
  /** Nodes that are being connected to, or are not for a while: until when. */
  const absent = new Map<string, number>()

  const open = (address: RunnerAddress.RunnerAddress) =>
    Effect.scoped(
      Effect.gen(function* () {
        const key = keyOf(address)
        const connected = yield* Effect.exit(connect(address))
        const isLinked = Exit.isSuccess(connected) && connected.value.alpnProtocol === protocol
        const pause = Exit.isSuccess(connected) ? olderFor : retryAfter
        if (!isLinked) {
          absent.set(key, monotonicMillisUnsafe(clock) + pause)
          return
        }
        absent.delete(key)
        yield* Effect.callback<void>((resume) => {
          const link = new Link(connected.value, clock, () => {
            if (links.get(key) === link) links.delete(key)
            resume(Effect.void)
          })
          links.set(key, link)
          return Effect.sync(() => link.destroy())
        })
      })
    )

  /** The link to a node, which is opened if there is none: then there will be one. */
  const linkTo = (address: RunnerAddress.RunnerAddress): Link | undefined => {
    const key = keyOf(address)
    const link = links.get(key)
    if (link === undefined && (absent.get(key) ?? Number.NEGATIVE_INFINITY) <= monotonicMillisUnsafe(clock)) {
      absent.set(key, Number.POSITIVE_INFINITY)
      run(open(address))
    }
    return link
  }

  const ask = ({ expiresIn, id, otherwise, payload, rpc, shard, type, within }: ActorMessage): Handled | undefined => {
    const address = answering.get(shard)
    const link = address === undefined ? undefined : linkTo(address)
    if (link === undefined) return undefined
    const { decodeExit, decodeSuccess, encodePayload } = codecsOf(rpc)
    const answered = ([, outcome, value]: Answer): Handled => {
      if (outcome === outcomes.success) return Effect.orDie(decodeSuccess(value))
      if (outcome === outcomes.exit) return Effect.flatten(Effect.orDie(decodeExit(value)))
      answering.delete(shard)
      return otherwise(false)
    }
    return Effect.flatMap(Effect.orDie(encodePayload(payload)), (encoded) =>
      Effect.callback<unknown, unknown>((resume) => {
        const row = (number: number) =>
          JSON.stringify([number, type, shard.group, shard.id, id, rpc._tag, encoded, expiresIn])
        const give = (handled: Handled) => {
          clearTimeout(deadline)
          resume(handled)
        }
        const number = link.send(row, {
          answer: (answer) => give(answered(answer)),
          fail: () => give(Effect.suspend(() => otherwise(true)))
        })
        const stop = () => {
          clearTimeout(deadline)
          link.forget(number)
        }
        const deadline = setTimeout(() => {
          stop()
          resume(Effect.die(new NodeUnavailable(`The node that runs ${type} ${id} does not answer`)))
        }, within)
        return Effect.sync(stop)
      })
    )
  }

  // Receiving

  const answerTo = makeAnswering(receivers, codecsOf, clock)

  const serve = (socket: net.Socket): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const lines = new Lines(socket, clock)
      const answer = (row: Row) =>
        Effect.map(answerTo(row), (answer) => {
          if (socket.writable) lines.add(JSON.stringify(answer))
        })
      readLines<Row>(socket, (rows) => {
        if (rows.length === 0) socket.write("[]\n")
        for (const row of rows) run(answer(row))
      })
      socket.on("error", () => socket.destroy())
      socket.once("close", () => resume(Effect.void))
      socket.resume()
      return Effect.sync(() => socket.destroy())
    })

  return NodeLinks.of({
    ask,
    answered: (shard, address) => {
      answering.set(shard, address)
      linkTo(address)
    },
    lost: (address) => {
      const key = keyOf(address)
      for (const [shard, answered] of answering) if (keyOf(answered) === key) answering.delete(shard)
      links.get(key)?.destroy()
    },
    serve
  })
})

export class NodeLinks extends Context.Service<
  NodeLinks,
  {
    /** Asks an actor of another node; undefined if no link leads to it now. */
    readonly ask: (message: ActorMessage) => Handled | undefined
    /** A message for the shard was answered by this node: the next ones go there by a link. */
    readonly answered: (shard: ShardId.ShardId, address: RunnerAddress.RunnerAddress) => void
    /** The node is lost, or does not answer others: closes its link, and opens none until the node answers again. */
    readonly lost: (address: RunnerAddress.RunnerAddress) => void
    /** Answers the messages of a connection of this protocol, until it closes. */
    readonly serve: (socket: net.Socket) => Effect.Effect<void>
  }
>()("greenroom/actors/runtime/internal/NodeLinks") {
  /** The name of the protocol of the application layer (ALPN). */
  static readonly protocol = protocol
  /** `connect` opens a connection to the port of the cluster. It ends with the scope. */
  static readonly layer = (
    connect: (address: RunnerAddress.RunnerAddress) => Effect.Effect<tls.TLSSocket, unknown, Scope.Scope>
  ) => Layer.effect(NodeLinks, make(connect))
}
