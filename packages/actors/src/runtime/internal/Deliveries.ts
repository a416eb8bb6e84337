/**
 * Messages between nodes in batches, over connections of Effect's cluster. The messages to a node in one turn of the event
 * loop are one request, whose answers are streamed as they come. Effect's own requests (an RPC within an RPC for each
 * message) cost several times as much. Where a message goes, and what happens when a node is lost, is Effect's decision all
 * the same: this is its `Runners.send`. What a lost node has not answered is sent again at once.
 *
 * A batch is JSON text of rows, and so is each part of the answer (`ActorMessages`). Where a message was answered, the next ones
 * for its shard go by a link (`NodeLinks`). Traced messages go Effect's way, which carries spans, as do those for nodes of a version
 * without batches.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { Cause, Clock, Context, Deferred, Effect, Exit, Fiber, Queue, RcMap, Schema, Scope } from "effect"
import { ClusterError, Reply, type RunnerAddress, Runners, Snowflake } from "effect/cluster"
import { Rpc, RpcClient, RpcGroup, RpcServer } from "effect/rpc"
import { NodeUnavailable } from "../NodeUnavailable.ts"
import { type Answer, makeAnswering, makeCodecs, outcomes, type Row } from "./ActorMessages.ts"
import { keyOf } from "./nodeKey.ts"
import { Receivers } from "./RemoteActors.ts"

/** JSON text in both directions: neither side pays for a schema around those of the messages. */
const Deliver = Rpc.make("Deliver", { payload: { messages: Schema.String }, success: Schema.String, stream: true })

export const group = RpcGroup.make(Deliver)

// Sending

type Send = Runners.Runners["Service"]["send"]

/** A message on its way to another node, however often it is sent. */
export interface Delivery {
  /** When it expires, by the monotonic clock of this node, in ms. */
  readonly expires: number
  /** Whether a node may have it. */
  isUnderWay: boolean
}

/** The delivery of a message, in its context. */
export const CurrentDelivery = Context.Reference<Delivery | undefined>("greenroom/runtime/internal/CurrentDelivery", {
  defaultValue: () => undefined
})

/** The time after which a node that does not support batches is asked again, in ms. */
const olderFor = 60_000
/** The time after which a batch is not sent any more, in ms: the process was stopped between two turns of its event loop. */
const maxBatchAge = 3_000
/** How many characters of messages wait for the end of the turn at most. */
const maxWaitingCharacters = 1024 * 1024

/** A message that waits for its answer. */
interface Waiting {
  readonly text: string
  readonly answer: (answer: Answer) => void
  readonly fail: (isOlder: boolean) => void
}

class Batch {
  readonly begun: number
  readonly waiting: Array<Waiting | undefined> = []
  characters = 0

  constructor(begun: number) {
    this.begun = begun
  }
}

const isOfOlderVersion = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isDieReason(reason) && String(reason.defect).includes("Unknown request tag"))

interface Sending {
  readonly send: Send
  /** The node is lost, or has lost its shards: unanswered messages fail, and the connection is closed. */
  readonly lost: (address: RunnerAddress.RunnerAddress) => Effect.Effect<void>
}

/** `Runners.send` in batches; `otherwise` is Effect's own. */
export const makeSend = Effect.fnUntraced(function* (
  otherwise: Send
): Effect.fn.Return<Sending, never, Runners.RpcClientProtocol | Snowflake.Generator | Scope.Scope> {
  const protocol = yield* Runners.RpcClientProtocol
  const snowflakes = yield* Snowflake.Generator
  const clock = yield* Clock.Clock
  const codecsOf = makeCodecs(protocol.codecFor)
  const context = yield* Effect.context<Scope.Scope>()
  const scope = Context.get(context, Scope.Scope)
  const batches = new Map<string, Batch>()
  const older = new Map<string, number>()
  /** What ends the batches that are not answered, by node. */
  const open = new Map<string, Set<() => void>>()

  /** Fails the unanswered messages, and returns their number. */
  const fail = (waiting: Array<Waiting | undefined>, isOlder = false): number => {
    const unanswered = waiting.filter((message) => message !== undefined)
    waiting.fill(undefined)
    for (const message of unanswered) message.fail(isOlder)
    return unanswered.length
  }

  const clients = yield* RcMap.make({
    lookup: (address: RunnerAddress.RunnerAddress) =>
      Effect.flatMap(protocol.make(address), (connection) =>
        Effect.provideService(RpcClient.make(group, { disableTracing: true }), RpcClient.Protocol, {
          ...connection,
          supportsAck: false
        })
      ),
    idleTimeToLive: "3 minutes"
  })

  const deliver = (address: RunnerAddress.RunnerAddress, waiting: Array<Waiting | undefined>) => {
    const messages = `[${waiting.map((message) => message!.text).join(",")}]`
    const hear = (parts: ReadonlyArray<string>) => {
      for (const part of parts) {
        for (const answer of JSON.parse(part) as ReadonlyArray<Answer>) {
          const message = waiting[answer[0]]
          waiting[answer[0]] = undefined
          message?.answer(answer)
        }
      }
    }
    return RcMap.get(clients, address).pipe(
      Effect.flatMap((client) => client.Deliver({ messages }, { asQueue: true })),
      Effect.flatMap((answers) => Effect.forever(Effect.map(Queue.takeAll(answers), hear))),
      Effect.scoped,
      Effect.onExit((exit) =>
        Effect.suspend(() => {
          const isOlder = Exit.isFailure(exit) && isOfOlderVersion(exit.cause)
          if (isOlder) older.set(keyOf(address), monotonicMillisUnsafe(clock) + olderFor)
          // The next batch connects at once, instead of when a lost connection is opened again.
          return fail(waiting, isOlder) > 0 && !isOlder ? RcMap.invalidate(clients, address) : Effect.void
        })
      ),
      Effect.exit
    )
  }

  const flush = (address: RunnerAddress.RunnerAddress) => {
    const batch = batches.get(keyOf(address))
    if (batch === undefined) return
    const { begun, waiting } = batch
    batches.delete(keyOf(address))
    if (monotonicMillisUnsafe(clock) - begun > maxBatchAge) {
      fail(waiting)
      return
    }
    const key = keyOf(address)
    const ofNode = open.get(key) ?? new Set()
    const lost = Deferred.makeUnsafe<void>()
    const end = () => {
      fail(waiting)
      Deferred.doneUnsafe(lost, Exit.void)
    }
    open.set(key, ofNode.add(end))
    const delivered = Effect.raceFirst(deliver(address, waiting), Deferred.await(lost))
    const fiber = Fiber.runIn(Effect.runForkWith(context)(delivered), scope)
    fiber.addObserver(() => ofNode.delete(end))
  }

  const lost = (address: RunnerAddress.RunnerAddress) =>
    Effect.suspend(() => {
      for (const end of open.get(keyOf(address)) ?? []) end()
      return RcMap.invalidate(clients, address)
    })

  const add = (address: RunnerAddress.RunnerAddress, message: (number: number) => Waiting) => {
    const batch = batches.get(keyOf(address)) ?? new Batch(monotonicMillisUnsafe(clock))
    batches.set(keyOf(address), batch)
    const added = message(batch.waiting.length)
    batch.waiting.push(added)
    batch.characters += added.text.length
    if (batch.characters > maxWaitingCharacters) flush(address)
    else if (batch.waiting.length === 1) setImmediate(flush, address)
  }

  const isOld = (address: RunnerAddress.RunnerAddress): boolean => {
    const until = older.get(keyOf(address))
    return until !== undefined && monotonicMillisUnsafe(clock) < until
  }

  const send: Send = ({ address, message }) => {
    if (message._tag !== "OutgoingRequest" || message.envelope.sampled === true || isOld(address)) {
      return otherwise({ address, message })
    }
    const { envelope } = message
    const rpc = message.rpc as unknown as Rpc.AnyWithProps
    const codecs = codecsOf(rpc)
    const respond = (exit: Exit.Exit<unknown, unknown>) =>
      message.respond(
        new Reply.WithExit({ id: snowflakes.nextUnsafe(), requestId: envelope.requestId, exit: exit as never })
      )
    const answered = ([, outcome, value]: Answer): ReturnType<Send> => {
      if (outcome === outcomes.elsewhere) {
        return Effect.fail(new ClusterError.EntityNotAssignedToRunner({ address: envelope.address }))
      }
      return outcome === outcomes.success
        ? Effect.flatMap(Effect.orDie(codecs.decodeSuccess(value)), (success) => respond(Exit.succeed(success)))
        : Effect.flatMap(Effect.orDie(codecs.decodeExit(value)), respond)
    }
    const delivery = Context.get(message.context as Context.Context<never>, CurrentDelivery)
    const expiresIn = () => (delivery?.expires ?? Number.POSITIVE_INFINITY) - monotonicMillisUnsafe(clock)
    if (expiresIn() <= 0) {
      return respond(Exit.die(new NodeUnavailable(`No node had time for a message to ${String(envelope.address)}`)))
    }
    const unanswered = (isOlder: boolean): ReturnType<Send> =>
      isOlder ? otherwise({ address, message }) : Effect.fail(new ClusterError.RunnerUnavailable({ address }))
    return Effect.matchEffect(codecs.encodePayload(envelope.payload), {
      onFailure: (error) => respond(Exit.die(error)),
      onSuccess: (payload) =>
        Effect.flatten(
          Effect.callback<ReturnType<Send>>((resume) => {
            const { entityId, entityType, shardId } = envelope.address
            const { group, id } = shardId
            const expires = delivery && Math.ceil(expiresIn())
            const done = (result: ReturnType<Send>) => {
              if (delivery !== undefined) delivery.isUnderWay = false
              resume(Effect.succeed(result))
            }
            if (delivery !== undefined) delivery.isUnderWay = true
            add(address, (number) => ({
              text: JSON.stringify([number, entityType, group, id, entityId, envelope.tag, payload, expires]),
              answer: (answer) => done(answered(answer)),
              fail: (isOlder) => done(unanswered(isOlder))
            }))
          })
        )
    })
  }
  return { send, lost }
})

// Receiving

/** The answers of a batch: those of one turn of the event loop are one part. The last ends the stream. */
class Answers {
  private readonly queue: Queue.Queue<string, Cause.Done>
  private missing: number
  private ready: Array<string> = []

  constructor(queue: Queue.Queue<string, Cause.Done>, missing: number) {
    this.queue = queue
    this.missing = missing
    if (missing === 0) Queue.endUnsafe(queue)
  }

  add(answer: Answer): void {
    this.missing--
    this.ready.push(JSON.stringify(answer))
    if (this.ready.length === 1) setImmediate(() => this.flush())
  }

  private flush(): void {
    Queue.offerUnsafe(this.queue, `[${this.ready.join(",")}]`)
    this.ready = []
    if (this.missing === 0) Queue.endUnsafe(this.queue)
  }
}

/** Hands messages of other nodes to the actors. Handlers run to their end even if the sender is lost: long messages may be repeated. */
export const handlers = group.toLayer(
  Effect.gen(function* () {
    const receivers = yield* Receivers
    const { codecFor } = yield* RpcServer.Protocol
    const context = yield* Effect.context<Scope.Scope>()
    const scope = Context.get(context, Scope.Scope)

    const answerTo = makeAnswering(receivers, makeCodecs(codecFor), yield* Clock.Clock)

    return {
      Deliver: ({ messages }) =>
        Effect.map(Queue.unbounded<string, Cause.Done>(), (queue) => {
          const rows = JSON.parse(messages) as ReadonlyArray<Row>
          const answers = new Answers(queue, rows.length)
          for (const row of rows) {
            const answered = Effect.map(answerTo(row), (answer) => answers.add(answer))
            Fiber.runIn(Effect.runForkWith(context)(answered), scope)
          }
          return queue
        })
    }
  })
)
