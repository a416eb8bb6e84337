/**
 * Why a request to another server failed, in a word for the log: the code that the system or TLS gives, such as
 * `ECONNREFUSED` or `DEPTH_ZERO_SELF_SIGNED_CERT`, else what the error is called.
 */

/** How deep causes of causes are followed. */
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
