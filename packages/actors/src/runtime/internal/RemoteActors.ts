/** The actors of this node, for what other nodes send to them, and the form in which their failures go there. */
import { Cause, Context, Layer } from "effect"
import type { ShardId } from "effect/cluster"
import type { Rpc } from "effect/rpc"
import { isSqlError } from "effect/sql/SqlError"
import type { Handled } from "./Actors.ts"

interface Receiver {
  readonly rpcs: ReadonlyMap<string, Rpc.AnyWithProps>
  /** Whether this node runs the actors of the shard now. */
  readonly holds: (shard: ShardId.ShardId) => boolean
  /** Fails with `Moved` where this node has not handled the message. It does not handle it after `expires` (`Actors.receive`). */
  readonly receive: (id: string, tag: string, payload: unknown, expires: number) => Handled
}

/** Keys: types of entities. */
export class Receivers extends Context.Service<Receivers, Map<string, Receiver>>()(
  "greenroom/actors/runtime/internal/Receivers"
) {
  static readonly layer = Layer.sync(Receivers, () => new Map())
}

const withSqlReason = (reason: Cause.Reason<unknown>): Cause.Reason<unknown> => {
  if (!Cause.isDieReason(reason) || !isSqlError(reason.defect)) return reason
  const { message, name, reason: cause } = reason.defect
  return Cause.makeDieReason(Object.assign(new Error(message, { cause: { ...cause, cause: cause.cause } }), { name }))
}

/**
 * A failure of an actor for another node: the reason of an error of SQL goes along as JSON. Of an `Error` only name, message and cause
 * would, and its SQLSTATE is none of them.
 */
export const forOtherNode = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> =>
  Cause.fromReasons(cause.reasons.map(withSqlReason))
