/**
 * The reason why the program did not start, in one line for the operator that names the option to look at.
 */
import { TlsError } from "@greenroom/gateway/federation/TlsError"
import { ListenError } from "@greenroom/gateway/ListenError"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as Data from "effect/Data"
import * as SqlError from "effect/sql/SqlError"

/** The federation listener could not be opened. */
export class FederationListenError extends Data.TaggedError("FederationListenError")<{
  readonly listen: ListenError
}> {}

/** The metrics listener could not be opened. */
export class MetricsListenError extends Data.TaggedError("MetricsListenError")<{ readonly listen: ListenError }> {}

/** The listener for other nodes could not be opened. */
export class ClusterListenError extends Data.TaggedError("ClusterListenError")<{ readonly listen: ListenError }> {}

/** A node needs an external PostgreSQL, because the embedded one belongs to one process. */
export class ClusterNeedsDatabase extends Data.TaggedError("ClusterNeedsDatabase") {
  override readonly message =
    "several nodes need a PostgreSQL of their own, not the embedded one: name it with --database-url"
}

/** The account that is configured to send server notices is the account of a user. */
export class NoticesUserTaken extends Data.TaggedError("NoticesUserTaken")<{ readonly message: string }> {}

/** `portOption` and `hostOption` name the settings of the listener. */
const describeListen = (error: ListenError, portOption: string, hostOption = "--host"): string => {
  const where = `${error.host} port ${error.port}`
  switch (error.code) {
    case "EADDRINUSE":
      return `${portOption}: another program listens on ${where}`
    case "EACCES":
      return `${portOption}: not allowed to listen on ${where}`
    default:
      return `${hostOption}: cannot listen on ${where} (${error.code})`
  }
}

/** The option to look at for an error with this tag. */
const optionOf: { readonly [tag: string]: string } = {
  SqlError: "--database-url",
  DatabaseUnreachable: "--database-url",
  DatabaseTooNew: "--database-url",
  DatabaseUnsuitable: "--database-url",
  DatabaseInUse: "--database-url",
  ServerNameMismatch: "--server-name",
  EmbeddedPostgresError: "--data-dir",
  ClusterNeedsDatabase: "--cluster",
  NoticesUserTaken: "server_notices.localpart"
}

const hasTag = (error: unknown): error is { readonly _tag: string; readonly message: string } =>
  typeof error === "object" && error !== null && "_tag" in error && "message" in error

/** The message of PostgreSQL if an error has one, instead of "Query failed". */
const textOf = (error: { readonly message: string }): string => {
  if (!SqlError.isSqlError(error)) return error.message
  const { cause } = error.reason
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message
}

/** Adds the remedy to the message of the system about a full disk. */
const withRemedy = (text: string): string =>
  /ENOSPC|No space left on device/.test(text) ? `${text}: the disk is full, make room` : text

/** An error without a file is of the self-signed certificate, which is kept in the data directory. */
const tlsOption = ({ file }: TlsError): string => (file === undefined ? "--data-dir" : `--tls-${file}`)

/** The line for the operator; undefined if nothing failed or the failure was reported already. */
export const describeFailure = (cause: Cause.Cause<unknown>): string | undefined => {
  if (Cause.hasInterruptsOnly(cause)) return undefined
  const error = Cause.squash(cause)
  if (CliError.isCliError(error)) return undefined
  if (error instanceof ListenError) return describeListen(error, "--port")
  if (error instanceof FederationListenError) return describeListen(error.listen, "--federation-port")
  if (error instanceof MetricsListenError) return describeListen(error.listen, "metrics.port", "metrics.host")
  if (error instanceof ClusterListenError)
    return describeListen(error.listen, "--cluster-port", "--cluster-listen-host")
  if (error instanceof TlsError) return `${tlsOption(error)}: ${withRemedy(error.message)}`
  if (!hasTag(error)) return withRemedy(error instanceof Error ? error.message : String(error))
  const option = optionOf[error._tag]
  const text = withRemedy(textOf(error))
  // Messages about directories name the option where it helps.
  return option === undefined || text.includes(option) ? text : `${option}: ${text}`
}
