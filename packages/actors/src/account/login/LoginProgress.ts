/**
 * The progress of a login, a registration or a link. It is stored as JSON, so that any node can continue; secrets in it are
 * hashed.
 *
 * Source: "Registration and login" of the draft.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import type { LoginSession } from "@greenroom/store/LoginSessionStore"
import type { ProviderSubject } from "@greenroom/store/UserIdentityStore"
import { Effect, type Redacted } from "effect"
import type { StageType } from "./LoginOptions.ts"

/** The purpose: to log in, to register, or to add a login method to an account. */
export type Purpose = "login" | "registration" | "link"

/** A code or a link was mailed. */
export interface PendingEmail {
  readonly type: "m.login.email.code" | "m.login.email.url"
  readonly email: string
  /** The user of the login; undefined for an unknown address: no mail was sent and the stage cannot be passed. */
  readonly userId?: UserId
  /** Whether a mail was sent. */
  readonly sent: boolean
  /** Of the code, with the session's secret. */
  readonly codeHash?: string
  /** Whether the link was opened and confirmed. */
  readonly confirmed?: boolean
  readonly mails: number
}

/** The user was sent to a provider. */
export interface PendingOAuth2 {
  readonly type: "m.login.oauth2"
  /** Undefined until a provider was selected. */
  readonly provider?: string
  readonly verifier?: string
  readonly nonce?: string
  /** Link: the identity that came back, until the user of the session confirms it. */
  readonly returned?: ProviderSubject
}

/** The state of a login between two requests. */
export interface LoginProgress {
  readonly passed: ReadonlyArray<StageType>
  readonly pending?: PendingEmail | PendingOAuth2
  /** Login: the user that the client named. `""` for a name that no user of this server can have. */
  readonly named?: UserId | ""
  /** Login: the user that the completed stages have proved. Link: the user of the session. */
  readonly userId?: UserId
  /** Registration: the requested user ID. */
  readonly wanted?: UserId
  /** Registration: the hash of the new password. Login: the one by which the password was verified. */
  readonly passwordHash?: string
  readonly email?: string
  readonly subject?: ProviderSubject
  /** The SHA-256 of the registration token, as base64. */
  readonly registrationToken?: string
  readonly deviceName?: string
  /** Begun by the fallback page, in the browser that has the secret with this hash. */
  readonly browserHash?: string
}

/** One request of a login. */
export interface StageRequest {
  readonly purpose: Purpose
  readonly type: StageType
  readonly progress: LoginProgress
  /** The secret of the session: the one of the request, or a new one if the login begins. */
  readonly secret: Redacted.Redacted
  /** Undefined if the login begins. */
  readonly session: LoginSession<LoginProgress> | undefined
  readonly body: { readonly [key: string]: unknown }
  /** The network address of the client. */
  readonly address: string
  /** The URL of this server, without a slash at the end. */
  readonly publicUrl: string
}

/** The outcome of a request: the stage is passed, or the login waits for something. */
export type Outcome =
  | { readonly passed: true; readonly progress: LoginProgress }
  | {
      readonly passed: false
      readonly progress: LoginProgress
      readonly uri?: string
      readonly link?: Redacted.Redacted
      readonly state?: Redacted.Redacted
      readonly freshTries?: boolean
      /** Runs once the session is stored. */
      readonly afterwards?: Effect.Effect<void>
      /** A secret that the browser keeps. */
      readonly browserSecret?: string
    }

/** The outcome of a passed stage. */
export const passed = (progress: LoginProgress): Outcome => ({ passed: true, progress })

/** The value of a key of a request, if it is a string. */
export const textOf = ({ body }: StageRequest, key: string): string | undefined => {
  const value = body[key]
  return typeof value === "string" ? value : undefined
}

/** The only possible user of the login, if known. */
export const expectedUser = ({ named, userId }: LoginProgress): UserId | "" | undefined => userId ?? named

/** Records that a stage has proved the user. Errors: M_FORBIDDEN if the login belongs to another user. */
export const prove = (
  progress: LoginProgress,
  userId: UserId,
  error: string
): Effect.Effect<LoginProgress, Forbidden> => {
  const expected = expectedUser(progress)
  return expected === undefined || expected === userId
    ? Effect.succeed({ ...progress, userId })
    : Effect.fail(new Forbidden({ error }))
}

/** Progress without the pending stage. */
export const withoutPending = ({ pending: _, ...rest }: LoginProgress): LoginProgress => rest
