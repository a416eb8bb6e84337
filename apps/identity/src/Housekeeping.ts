/**
 * Deletes old sessions and access tokens, counts of messages and expired invitations, once an hour.
 */

import { periodically } from "@greenroom/store/Supervision"
import { Effect, Layer } from "effect"
import { Accounts } from "./Accounts.ts"
import { SentMessages } from "./SentMessages.ts"
import { StoredInvites } from "./StoredInvites.ts"
import { ValidationSessions } from "./ValidationSessions.ts"

const interval = "1 hour"

const make = Effect.gen(function* () {
  const sessions = yield* ValidationSessions
  const messages = yield* SentMessages
  const invites = yield* StoredInvites
  const accounts = yield* Accounts
  yield* periodically(
    "Deleting old rows",
    interval,
    Effect.all([sessions.forget, messages.forget, invites.forget, accounts.forget], { discard: true })
  )
})

/** Runs until the layer closes. */
export const layer: Layer.Layer<never, never, ValidationSessions | SentMessages | StoredInvites | Accounts> =
  Layer.effectDiscard(make)
