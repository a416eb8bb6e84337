/**
 * Failures while one item is handled, of a transaction or of background work: whether the item is at fault, so that the same
 * will happen again, or something that passes, such as a database that is down.
 *
 * An item at fault gets an error of its own (`outcomeOf`). Otherwise the whole transaction is answered with an error, and its origin
 * sends it again; background work keeps the item, and fails with `TryAgain`.
 */
import { BadRequest, isMatrixError, type MatrixError, statusOf } from "@greenroom/protocol/MatrixError"
import { Cause, Data, Effect, Option, Predicate, Result } from "effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { findIn, isOfUnavailableNode, isOutOfResources } from "./NodeUnavailable.ts"

/** Classes of SQLSTATE for faults of the data: data exception, constraint violation, limit of the program exceeded. */
const dataStates = /^(22|23|54)/

/** How deep causes of causes are followed. */
const maxDepth = 5

const isOfData = (error: SqlError): boolean => {
  const { cause } = error.reason
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" && dataStates.test(cause.code)
}

/** How deep the JSON of a failure is searched: a cause, its reasons, an error of SQL, its reason, an error of PostgreSQL. */
const maxJsonDepth = 10

/** Whether the JSON of a failure has a SQLSTATE for a fault of the data. */
const hasDataState = (value: unknown, depth: number): boolean =>
  typeof value === "object" &&
  value !== null &&
  depth > 0 &&
  ((Predicate.hasProperty(value, "code") && typeof value.code === "string" && dataStates.test(value.code)) ||
    Object.values(value).some((inner) => hasDataState(inner, depth - 1)))

/** Errors of the actors' runtime, which every request may be answered with. */
const passingTags: ReadonlySet<unknown> = new Set([
  "StaleWriter",
  "MailboxFull",
  "AlreadyProcessingMessage",
  "PersistenceError",
  "EntityNotAssignedToRunner"
])

const errorPasses = (error: unknown, depth: number): boolean => {
  if (depth === 0) return true
  if (Cause.isCause(error)) return causePasses(error, depth - 1)
  if (isSqlError(error)) return !isOfData(error)
  if (isMatrixError(error)) return true
  if (!Predicate.hasProperty(error, "_tag")) return error instanceof Error && remotePasses(error)
  if (error._tag === "CommitFailed" && Predicate.hasProperty(error, "cause")) {
    return typeof error.cause === "string" || errorPasses(error.cause, depth - 1)
  }
  return passingTags.has(error._tag)
}

/** Errors of the database: of a commit, and of another statement. */
const databaseErrors: ReadonlySet<string> = new Set(["CommitFailed", "effect/sql/SqlError"])

/** Defects of other nodes arrive as an `Error` with the name of the original one, and with its cause as JSON. */
const remotePasses = ({ cause, name }: Error): boolean =>
  databaseErrors.has(name) ? !hasDataState(cause, maxJsonDepth) : passingTags.has(name)

const causePasses = (cause: Cause.Cause<unknown>, depth: number): boolean =>
  cause.reasons.some((reason) =>
    Cause.isFailReason(reason)
      ? errorPasses(reason.error, depth)
      : Cause.isDieReason(reason)
        ? errorPasses(reason.defect, depth)
        : true
  )

/**
 * SQLSTATEs for what the database, its operator and other statements cause, whatever the item: connections, conflicts, resources, locks,
 * shutdown and files; timeouts of transactions; missing rights, tables, columns and functions; corrupted tables and indexes. A statement
 * that is cancelled again and again (57014) may take too long because of the item.
 */
const ownStates = /^((08|28|40|53|55|58)\w{3}|57P\w\d|25P0[34]|42(501|P01|703|883)|XX00[12])$/

/** 429, and 5xx for what this server waits for. */
const isTemporary = ({ _tag }: MatrixError): boolean => statusOf[_tag] === 429 || statusOf[_tag] >= 500

/** A commit that was not tried, since one before it had failed: that one is at fault. */
const isOfOtherCommit = (fault: { readonly _tag: unknown }): boolean =>
  fault._tag === "CommitFailed" && Predicate.hasProperty(fault, "untouched") && fault.untouched === true

const isOwnFault = (fault: unknown): boolean =>
  isMatrixError(fault)
    ? isTemporary(fault)
    : (Predicate.hasProperty(fault, "_tag") && (passingTags.has(fault._tag) || isOfOtherCommit(fault))) ||
      (Predicate.hasProperty(fault, "code") && typeof fault.code === "string" && ownStates.test(fault.code))

/** Whether this server failed whatever the item is: a node or the database was not available, or at its limits. */
const isOwnFailure = (cause: Cause.Cause<unknown>): boolean =>
  Cause.hasInterruptsOnly(cause) ||
  isOfUnavailableNode(cause) ||
  isOutOfResources(cause) ||
  findIn(cause, isOwnFault) !== undefined

/**
 * True if a repeat may succeed: the item is not at fault. At the last attempt only failures of this server's own pass, however long
 * they last: an item that keeps failing for another reason is not waited for any longer.
 */
export const mayPass = (cause: Cause.Cause<unknown>, isLastAttempt = false): boolean =>
  isOwnFailure(cause) || (!isLastAttempt && causePasses(cause, maxDepth))

/** An item of background work could not be handled now. A later attempt may succeed. */
export class TryAgain extends Data.TaggedError("TryAgain")<{ readonly cause: unknown }> {}

const internalError = new BadRequest({ error: "Internal error" })

/** The error for good. Undefined for those that pass. */
const refusalOf = (cause: Cause.Cause<MatrixError | TryAgain>, isLastAttempt = false): MatrixError | undefined => {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error === undefined) return mayPass(cause, isLastAttempt) ? undefined : internalError
  if (error._tag === "TryAgain") return undefined
  return isTemporary(error) ? undefined : error
}

/** Whether a repeat of the request would be refused again, or has failed too often. */
export const isRefusal = (cause: Cause.Cause<MatrixError>, isLastAttempt = false): boolean =>
  !Cause.hasInterruptsOnly(cause) && refusalOf(cause, isLastAttempt) !== undefined

/**
 * How a request of background work ends: with its answer, or with the error by which it is refused for good. Fails with `TryAgain`
 * for what passes. A defect that does not pass is logged, and is a refusal: one item must not hold up all others. `what` names
 * the request in the log.
 */
export const outcomeOf = <A, R>(
  what: string,
  request: Effect.Effect<A, MatrixError | TryAgain, R>
): Effect.Effect<Result.Result<A, MatrixError>, TryAgain, R> =>
  Effect.matchCauseEffect(request, {
    onSuccess: (answer) => Effect.succeed(Result.succeed(answer)),
    onFailure: (cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
      const refusal = refusalOf(cause)
      if (refusal === undefined) return Effect.fail(new TryAgain({ cause: Cause.squash(cause) }))
      const failed = Effect.succeed(Result.fail(refusal))
      return refusal === internalError ? Effect.andThen(Effect.logError(`${what} failed`, cause), failed) : failed
    }
  })

/** Handles each item, also if others fail. Fails afterwards with the first failure. */
export const handleEach = <A, E, R>(
  items: Iterable<A>,
  handle: (item: A) => Effect.Effect<unknown, E, R>,
  concurrency: number | "unbounded" = 1
): Effect.Effect<void, E, R> =>
  Effect.flatMap(Effect.partition(items, handle, { concurrency }), ([, failures]) =>
    failures.length === 0 ? Effect.void : Effect.fail(failures[0]!)
  )
