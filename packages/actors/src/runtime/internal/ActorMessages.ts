/**
 * Messages to actors as they go between nodes: rows of JSON. A node answers each with the value or the failure of the actor, or that
 * it does not run the actor now.
 *
 *     [number, entity type, shard group, shard, entity ID, tag, payload, in how many ms it expires]
 *     [number, 0, value]: success    [number, 1, exit]    [number, 2]: the node does not run the actor now
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { type Clock, Effect, Exit, Schema } from "effect"
import { ShardId } from "effect/cluster"
import { Rpc, type RpcSerialization } from "effect/rpc"
import { handledWithin } from "../Repetition.ts"
import { hasMoved } from "./Actors.ts"
import type { Receivers } from "./RemoteActors.ts"

export const outcomes = { success: 0, exit: 1, elsewhere: 2 } as const

export type Row = readonly [
  number: number,
  type: string,
  shardGroup: string,
  shard: number,
  id: string,
  tag: string,
  payload: unknown,
  /** Older versions do not give it. */
  expiresIn?: number
]
export type Answer = readonly [number: number, outcome: number, value?: unknown]

/** The codecs of a message. */
interface Codecs {
  readonly encodePayload: (payload: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly decodePayload: (payload: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly encodeSuccess: (value: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly decodeSuccess: (value: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly encodeExit: (exit: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly decodeExit: (exit: unknown) => Effect.Effect<Exit.Exit<unknown, unknown>, Schema.SchemaError>
}

/** Makes the codecs of each message once. */
export const makeCodecs = (codecFor: RpcSerialization.CodecFor) => {
  const all = new WeakMap<Rpc.Any, Codecs>()
  return (rpc: Rpc.AnyWithProps): Codecs => {
    const known = all.get(rpc)
    if (known !== undefined) return known
    const payload = codecFor(rpc.payloadSchema)
    const success = codecFor(rpc.successSchema)
    const exit = codecFor(Rpc.exitSchema(rpc))
    const codecs = {
      encodePayload: Schema.encodeUnknownEffect(payload),
      decodePayload: Schema.decodeUnknownEffect(payload),
      encodeSuccess: Schema.encodeUnknownEffect(success),
      decodeSuccess: Schema.decodeUnknownEffect(success),
      encodeExit: Schema.encodeUnknownEffect(exit),
      decodeExit: Schema.decodeUnknownEffect(exit)
    } as unknown as Codecs
    all.set(rpc, codecs)
    return codecs
  }
}

const encodeExit = ({ encodeExit }: Codecs, number: number, exit: Exit.Exit<unknown, unknown>) =>
  encodeExit(exit).pipe(
    Effect.catch((error) => encodeExit(Exit.die(error))),
    Effect.orDie,
    Effect.map((encoded): Answer => [number, outcomes.exit, encoded])
  )

/** Hands messages to the actors of this node. */
export const makeAnswering =
  (receivers: Receivers["Service"], codecsOf: ReturnType<typeof makeCodecs>, clock: Clock.Clock) =>
  ([number, type, shardGroup, shard, id, tag, payload, expiresIn = handledWithin]: Row): Effect.Effect<Answer> => {
    const receiver = receivers.get(type)
    const rpc = receiver?.rpcs.get(tag)
    if (rpc === undefined || receiver?.holds(ShardId.make(shardGroup, shard)) !== true) {
      return Effect.succeed([number, outcomes.elsewhere])
    }
    const codecs = codecsOf(rpc)
    const expires = monotonicMillisUnsafe(clock) + expiresIn
    const handled = Effect.flatMap(Effect.orDie(codecs.decodePayload(payload)), (decoded) =>
      receiver.receive(id, tag, decoded, expires)
    )
    return Effect.flatMap(Effect.exit(handled), (exit) => {
      if (hasMoved(exit)) return Effect.succeed<Answer>([number, outcomes.elsewhere])
      return Exit.isSuccess(exit)
        ? Effect.matchEffect(codecs.encodeSuccess(exit.value), {
            onFailure: (error) => encodeExit(codecs, number, Exit.die(error)),
            onSuccess: (value) => Effect.succeed<Answer>([number, outcomes.success, value])
          })
        : encodeExit(codecs, number, exit)
    })
  }
