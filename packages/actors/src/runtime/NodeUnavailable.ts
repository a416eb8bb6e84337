/**
 * The node that runs an actor did not answer: it was killed, cut off or stopped, or does not hold the actor any more. Whether
 * it has done what it was asked is not known. A defect, so that no error schema needs it; clients get 503 with `Retry-After`, as
 * where the database cannot be reached.
 */
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"
import * as SqlError from "effect/sql/SqlError"

/** A message was not handled, since the node of its actor cannot be reached. */
export class NodeUnavailable extends Error {
  readonly _tag = "NodeUnavailable"
  override readonly name = "NodeUnavailable"
}

/**
 * `EntityNotAssignedToRunner`: Effect's name for the same, while a node goes down. `StaleWriter`: other nodes have opened the room again
 * and again, as where this one was cut off and has not noticed.
 */
const names: ReadonlySet<unknown> = new Set([
  "NodeUnavailable",
  "EntityNotAssignedToRunner",
  "LeaseLost",
  "StaleWriter"
])

/** Compares names, since an error that comes from another node has nothing else: `Schema.Defect` keeps the name alone. */
const isNodeUnavailable = (defect: unknown): boolean => Predicate.hasProperty(defect, "name") && names.has(defect.name)

/** Marks the reasons of errors of SQL, in their JSON too. */
const reasonTypeId: keyof SqlError.ConnectionError = "~effect/sql/SqlError/Reason"

/** SQLSTATEs of PostgreSQL while it starts or stops (57P01 to 57P05) or accepts no more connections (53300). */
const awayStates = /^(57P0|53300)/

/**
 * Whether a reason of a `SqlError` is that there is no connection, or one that the server ended or does not want. Also of its JSON, and of
 * its name alone, which is what arrives from other nodes.
 */
const isAway = (reason: unknown): boolean =>
  Predicate.hasProperty(reason, reasonTypeId)
    ? (Predicate.hasProperty(reason, "_tag") && reason._tag === "ConnectionError") ||
      (Predicate.hasProperty(reason, "operation") && reason.operation === "connect") ||
      (Predicate.hasProperty(reason, "cause") &&
        Predicate.hasProperty(reason.cause, "code") &&
        awayStates.test(String(reason.cause.code)))
    : Predicate.hasProperty(reason, "name") && reason.name === "effect/sql/SqlError/ConnectionError"

/**
 * The database takes no writes (25006), or has no more disk or memory (53100, 53200); or a disk of this node is full. Passes when
 * the operator makes room.
 */
const outOfResources: ReadonlySet<unknown> = new Set(["25006", "53100", "53200", "ENOSPC", "EDQUOT"])

const hasNoResources = (fault: unknown): boolean =>
  Predicate.hasProperty(fault, "code") && outOfResources.has(fault.code)

/** How deep the reasons of a failure are followed: the JSON of a cause has several levels for each of its own. */
const maxDepth = 10

/** What a fault was caused by: the parts of JSON, else its cause. */
const causesOf = (fault: unknown): ReadonlyArray<unknown> => {
  if (typeof fault !== "object" || fault === null) return []
  if (Cause.isCause(fault)) return [Cause.squash(fault)]
  if (SqlError.isSqlError(fault)) return [fault.reason]
  if (Array.isArray(fault) || Object.getPrototypeOf(fault) === Object.prototype) return Object.values(fault)
  return Predicate.hasProperty(fault, "cause") ? [fault.cause] : []
}

/** The first fault that fulfils a condition, among a defect and its causes. */
const find = (holds: (fault: unknown) => boolean, defect: unknown, depth = maxDepth): unknown =>
  holds(defect)
    ? defect
    : depth === 0
      ? undefined
      : causesOf(defect).reduce((found: unknown, cause) => found ?? find(holds, cause, depth - 1), undefined)

const faultOf = (reason: Cause.Reason<unknown>): unknown =>
  Cause.isDieReason(reason) ? reason.defect : Cause.isFailReason(reason) ? reason.error : undefined

/** The first fault that fulfils a condition, among the errors and defects of a failure and their causes. */
export const findIn = (cause: Cause.Cause<unknown>, holds: (fault: unknown) => boolean): unknown =>
  cause.reasons.reduce((found: unknown, reason) => found ?? find(holds, faultOf(reason)), undefined)

/** Whether a request failed because a node, or the database, was not available. */
export const isOfUnavailableNode = (cause: Cause.Cause<unknown>): boolean =>
  findIn(cause, (fault) => isNodeUnavailable(fault) || isAway(fault)) !== undefined

/** Whether a request failed because nothing could be written, as on a full disk. Nobody but the operator can mend that. */
export const isOutOfResources = (cause: Cause.Cause<unknown>): boolean => findIn(cause, hasNoResources) !== undefined

/** With which SQLSTATE the database refuses what a deactivated account would store (migration `0101_ended_accounts`). */
const endedAccountState = "UD001"

/** Whether a request failed because its account was deactivated while it was handled. */
export const isOfEndedAccount = (cause: Cause.Cause<unknown>): boolean =>
  findIn(cause, (fault) => Predicate.hasProperty(fault, "code") && fault.code === endedAccountState) !== undefined

/**
 * PostgreSQL has cancelled a statement (57014), as an operator or `statement_timeout` wants it; or it has given up waiting for a lock
 * (55P03), or the statement in favour of another one (40001, 40P01).
 */
const cancelled: ReadonlySet<unknown> = new Set(["57014", "55P03", "40001", "40P01"])

const isCancelled = (fault: unknown): boolean => Predicate.hasProperty(fault, "code") && cancelled.has(fault.code)

const messageOf = (fault: unknown): string =>
  Predicate.hasProperty(fault, "message") ? String(fault.message) : "no reason is known"

/**
 * Why the database has refused what it may do later, with its own message, for the log: the operator has to see it. Undefined for all
 * other failures.
 */
export const databaseRefusal = (cause: Cause.Cause<unknown>): string | undefined => {
  const unstored = findIn(cause, hasNoResources)
  if (unstored !== undefined) return `nothing can be stored: ${messageOf(unstored)}`
  const fault = findIn(cause, isCancelled)
  return fault === undefined ? undefined : `the database did not finish a statement: ${messageOf(fault)}`
}
