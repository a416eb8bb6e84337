/**
 * Requests by users of other servers to see the presence of ours. The user folder provides the service
 * (`user/PresenceInvitationsLive.ts`): the answer is the User actor's.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"

/** Requests by users of other servers to see the presence of local users. */
export class PresenceInvitations extends Context.Service<
  PresenceInvitations,
  {
    /** `observer` asks to see `observed`, a user of this server. True if they may from now on. */
    readonly receive: (observed: UserId, observer: UserId) => Effect.Effect<boolean, MatrixError>
  }
>()("greenroom/actors/federation/PresenceInvitations") {}
