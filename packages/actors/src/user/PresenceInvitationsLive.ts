/**
 * `PresenceInvitations` of the federation, answered by the User actor of the observed user.
 */
import { Effect, Layer } from "effect"
import { PresenceInvitations } from "../federation/PresenceInvitations.ts"
import { ask } from "../runtime/Ask.ts"
import { User } from "./UserProtocol.ts"

export const layer = Layer.effect(
  PresenceInvitations,
  Effect.map(User.client, (user) =>
    PresenceInvitations.of({ receive: (observed, observer) => ask(user(observed).PresenceInvited({ observer })) })
  )
)
