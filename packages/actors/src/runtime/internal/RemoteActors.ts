/** The actors of this node, for what other nodes send to them. */
import { Context, Layer } from "effect"
import type { ShardId } from "effect/cluster"
import type { Rpc } from "effect/rpc"
import type { Handled } from "./Actors.ts"

interface Receiver {
  readonly rpcs: ReadonlyMap<string, Rpc.AnyWithProps>
  /** Whether this node runs the actors of the shard now. */
  readonly holds: (shard: ShardId.ShardId) => boolean
  /** Fails with `Moved` where this node has not handled the message. It does not handle it after `expires` (`Actors.receive`). */
  readonly receive: (id: string, tag: string, payload: unknown, expires: number) => Handled
}

/** By the type of the entity. */
export class Receivers extends Context.Service<Receivers, Map<string, Receiver>>()(
  "greenroom/actors/runtime/internal/Receivers"
) {
  static readonly layer = Layer.sync(Receivers, () => new Map())
}
