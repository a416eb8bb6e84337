/**
 * The error of a certificate or its key. Apart from `TlsCredentials`, so that commands describe it without loading them.
 */
import * as Data from "effect/Data"

/** The certificate and its key cannot be used. The message names the file and the fault, never its content. */
export class TlsError extends Data.TaggedError("TlsError")<{
  readonly message: string
  /** The faulty one of the two files. */
  readonly file?: "cert" | "key"
}> {}
