/**
 * The reason of a failed request to another server, in one word for the log: the code of the system or of TLS, such as `ECONNREFUSED`
 * or `DEPTH_ZERO_SELF_SIGNED_CERT`, else the tag of the error.
 */

/** The maximal depth of nested causes. */
const maxDepth = 5

export const failureReason = (error: { readonly _tag: string; readonly cause?: unknown }): string => {
  let cause = error.cause
  for (let depth = 0; depth < maxDepth && typeof cause === "object" && cause !== null; depth++) {
    const { cause: deeper, code } = cause as { readonly cause?: unknown; readonly code?: unknown }
    if (typeof code === "string") return code
    cause = deeper
  }
  return error._tag
}
