/**
 * Whether users accept invitations at all. Invitations of a user who accepts none are refused, and earlier unanswered ones are
 * left out of what clients receive.
 *
 * Source: "Invite permission" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { Effect, Option } from "effect"

const type = "m.invite_permission_config"

export const makeInvitePermission = Effect.gen(function* () {
  const store = yield* AccountDataStore

  /** Whether a user of this server blocks all invitations. */
  const isBlocking = (userId: UserId): Effect.Effect<boolean> =>
    Effect.map(
      store.get(userId, undefined, type),
      Option.exists(({ default_action }) => default_action === "block")
    )

  return { isBlocking }
})
