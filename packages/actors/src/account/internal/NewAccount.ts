/**
 * The rules for names and passwords of new accounts.
 *
 * Source: "Registration and login" of the draft, "Account registration" of the client-server specification.
 */
import {
  formatUserId,
  isUserId,
  localpartGrammar,
  lowerCaseLocalpart,
  maxIdentifierBytes,
  type ServerName,
  type UserId
} from "@greenroom/protocol/Identifiers"
import { BadJson, InvalidUsername, type MatrixError, WeakPassword } from "@greenroom/protocol/MatrixError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { type LoginOptions, loginDefaults } from "../login/LoginOptions.ts"

/** Bounds the time of hashing. */
export const maxPasswordLength = 512

/**
 * Checks a new password; `key` names it in the error. Existing passwords are not checked. Errors: M_WEAK_PASSWORD for one that is
 * shorter than the operator wants, M_BAD_JSON for one that is too long or no valid Unicode.
 */
export const passwordCheck =
  ({ minPasswordLength = loginDefaults.minPasswordLength }: LoginOptions) =>
  (password: Redacted.Redacted, key = "password"): Effect.Effect<void, MatrixError> => {
    const text = Redacted.value(password)
    const error = `${key}: must have ${minPasswordLength} to ${maxPasswordLength} characters`
    if (text.length < minPasswordLength) return new WeakPassword({ error })
    if (text.length > maxPasswordLength) return new BadJson({ error })
    return text.isWellFormed() ? Effect.void : new BadJson({ error: `${key}: not valid Unicode` })
  }

/**
 * The user ID that a registration requests by a localpart or a whole user ID of this server. Capitals become small letters. Errors:
 * M_INVALID_USERNAME.
 */
export const requestedUserId = (requested: string, serverName: ServerName): Effect.Effect<UserId, MatrixError> => {
  const refuse = (error: string) => Effect.fail(new InvalidUsername({ error }))
  const [, name = requested, server = serverName] = /^@([^:]*):(.*)$/s.exec(requested) ?? []
  const localpart = lowerCaseLocalpart(name)
  if (server !== serverName) return refuse(`Users of this server end in :${serverName}`)
  if (!localpartGrammar.test(localpart)) {
    return refuse("A user name consists of the letters a-z, digits, and . _ = - / +")
  }
  const userId = formatUserId(localpart, serverName)
  return isUserId(userId) ? Effect.succeed(userId) : refuse(`A user ID has at most ${maxIdentifierBytes} bytes`)
}
