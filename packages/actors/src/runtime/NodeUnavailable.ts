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

/** `EntityNotAssignedToRunner`: Effect's name for the same, while a node goes down. */
const names: ReadonlySet<unknown> = new Set(["NodeUnavailable", "EntityNotAssignedToRunner", "LeaseLost"])

/** Also true of one that another node has answered with: `Schema.Defect` keeps its name alone. */
const isNodeUnavailable = (defect: unknown): boolean => Predicate.hasProperty(defect, "name") && names.has(defect.name)

/** Of PostgreSQL: it starts or stops (57P01 to 57P05), or takes no more connections (53300). */
const awayStates = /^(57P0|53300)/

/** No connection, or one that the server ended or does not want. */
const isAway = ({ reason }: SqlError.SqlError): boolean =>
  reason._tag === "ConnectionError" ||
  reason.operation === "connect" ||
  (Predicate.hasProperty(reason.cause, "code") && awayStates.test(String(reason.cause.code)))

/** Also true of what failed because of that, such as a commit. */
const isDatabaseUnreachable = (defect: unknown, depth = 4): boolean => {
  if (SqlError.isSqlError(defect)) return isAway(defect)
  if (depth === 0) return false
  if (Cause.isCause(defect)) return isDatabaseUnreachable(Cause.squash(defect), depth - 1)
  return Predicate.hasProperty(defect, "cause") && isDatabaseUnreachable(defect.cause, depth - 1)
}

/** Whether a request failed because a node, or the database, was not available. */
export const isOfUnavailableNode = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some(
    (reason) => Cause.isDieReason(reason) && (isNodeUnavailable(reason.defect) || isDatabaseUnreachable(reason.defect))
  )
