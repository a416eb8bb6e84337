/**
 * The identity servers that requests name, and the errors of their answers.
 */
import type {
  NoValidSession,
  SessionExpired,
  SessionNotValidated,
  TokenIncorrect
} from "@greenroom/protocol/identity/IdentityError"
import { isMatrixError, type MatrixError, ThirdPartyIdAuthFailed } from "@greenroom/protocol/MatrixError"

/** The URL of an identity server that may be asked, without a slash at the end. */
export type IdentityServer = string & { readonly IdentityServer: never }

/** One that the operator trusts to say whose an address is. */
export type TrustedServer = IdentityServer & { readonly TrustedServer: never }

/** The errors of requests about a session of an identity server. */
export type IdentityFailure = MatrixError | NoValidSession | SessionExpired | SessionNotValidated | TokenIncorrect

/** The failure as an error of today's client API, which has one code for all faults of a session: M_THREEPID_AUTH_FAILED. */
export const toMatrixError = (failure: IdentityFailure): MatrixError =>
  isMatrixError(failure) ? failure : new ThirdPartyIdAuthFailed({ error: failure.error })
