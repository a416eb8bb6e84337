/**
 * Failures while one item of a transaction is handled: whether the item is at fault, so that the same will happen again,
 * or something that passes, such as a database that is down.
 *
 * An item at fault gets an error of its own. Otherwise the whole transaction is answered with an error, and its origin
 * sends it again.
 */
import { isMatrixError } from "@greenroom/protocol/MatrixError"
import { Cause, Predicate } from "effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"

/** Classes of SQLSTATE for faults of the data: data exception, constraint violation, limit of the program exceeded. */
const dataStates = /^(22|23|54)/

/** How deep causes of causes are followed. */
const maxDepth = 5

const isOfData = (error: SqlError): boolean => {
  const { cause } = error.reason
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" && dataStates.test(cause.code)
}

/** Errors of the actors' runtime, which every request may be answered with. */
const passingTags: ReadonlySet<unknown> = new Set([
  "StaleWriter",
  "MailboxFull",
  "AlreadyProcessingMessage",
  "PersistenceError",
  "EntityNotAssignedToRunner",
  "NodeUnavailable"
])

const errorPasses = (error: unknown, depth: number): boolean => {
  if (depth === 0) return true
  if (Cause.isCause(error)) return causePasses(error, depth - 1)
  if (isSqlError(error)) return !isOfData(error)
  if (isMatrixError(error)) return true
  if (!Predicate.hasProperty(error, "_tag")) return false
  if (error._tag === "CommitFailed" && Predicate.hasProperty(error, "cause")) {
    return typeof error.cause === "string" || errorPasses(error.cause, depth - 1)
  }
  return passingTags.has(error._tag)
}

const causePasses = (cause: Cause.Cause<unknown>, depth: number): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason)
      ? errorPasses(reason.error, depth)
      : Cause.isDieReason(reason)
        ? errorPasses(reason.defect, depth)
        : true
  )

/**
 * True if a repeat may succeed: the item is not at fault. At the last attempt only an interruption passes: an item that
 * keeps failing is not waited for any longer.
 */
export const mayPass = (cause: Cause.Cause<unknown>, isLastAttempt = false): boolean =>
  isLastAttempt ? Cause.hasInterruptsOnly(cause) : causePasses(cause, maxDepth)
