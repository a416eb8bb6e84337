/**
 * Deletes old sessions, counts of messages and expired invitations, once an hour.
 */

import { periodically } from "@greenroom/store/Supervision"
import { Effect, Layer } from "effect"
import { SentMessages } from "./SentMessages.ts"
import { StoredInvites } from "./StoredInvites.ts"
import { ValidationSessions } from "./ValidationSessions.ts"

const interval = "1 hour"

const make = Effect.gen(function* () {
  const sessions = yield* ValidationSessions
  const messages = yield* SentMessages
  const invites = yield* StoredInvites
  yield* periodically(
    "Deleting old rows",
    interval,
    Effect.all([sessions.forget, messages.forget, invites.forget], { discard: true })
  )
})

/** Runs until the layer closes. */
export const layer: Layer.Layer<never, never, ValidationSessions | SentMessages | StoredInvites> =
  Layer.effectDiscard(make)
