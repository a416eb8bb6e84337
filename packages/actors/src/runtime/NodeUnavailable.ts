/**
 * The node that runs an actor did not answer: it was killed, cut off or stopped, or does not hold the actor any more. Whether
 * it has done what it was asked is not known. A defect, so that no error schema needs it; clients get 503 with `Retry-After`, as
 * where the database cannot be reached.
 */
import { Cause, Predicate } from "effect"
import { SqlError } from "effect/sql"

export class NodeUnavailable extends Error {
  readonly _tag = "NodeUnavailable"
  override readonly name = "NodeUnavailable"
}

/** Effect's name for the same, while a node goes down. */
const names: ReadonlySet<unknown> = new Set(["NodeUnavailable", "EntityNotAssignedToRunner"])

/** Also true of one that another node has answered with: `Schema.Defect` keeps its name alone. */
const isNodeUnavailable = (defect: unknown): boolean => Predicate.hasProperty(defect, "name") && names.has(defect.name)

/** Also true of what failed because of that, such as a commit. */
const isDatabaseUnreachable = (defect: unknown, depth = 4): boolean =>
  SqlError.isSqlError(defect)
    ? defect.reason._tag === "ConnectionError"
    : depth > 0 && Predicate.hasProperty(defect, "cause") && isDatabaseUnreachable(defect.cause, depth - 1)

/** Whether a request failed because a node, or the database, was not available. */
export const isOfUnavailableNode = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some(
    (reason) => Cause.isDieReason(reason) && (isNodeUnavailable(reason.defect) || isDatabaseUnreachable(reason.defect))
  )
