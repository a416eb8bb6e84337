/**
 * Presence: who is there. Changes are messages to the `Presence` actor of that user, which merges the devices.
 *
 * Source: "Presence" of the specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect, type Scope } from "effect"
import type { PresenceContent } from "./Rooms.ts"
import type { Session } from "./Session.ts"

export type PresenceState = "online" | "unavailable" | "offline" | "free_for_chat" | "hidden"

export class Presences extends Context.Service<
  Presences,
  {
    /** The user alone. */
    readonly set: (
      session: Session,
      userId: UserId,
      state: PresenceState,
      statusMessage?: string
    ) => Effect.Effect<void, MatrixError>
    /** Who shares a room with the user, or was accepted by the user. Errors: M_FORBIDDEN. */
    readonly get: (session: Session, userId: UserId) => Effect.Effect<PresenceContent, MatrixError>
    /** The presence of several users at once, without checks: for callers that have checked. */
    readonly many: (userIds: ReadonlyArray<UserId>) => Effect.Effect<ReadonlyArray<PresenceContent>>
    /** The device is connected to the event stream until the scope closes (with a grace period between polls). */
    readonly connected: (session: Session) => Effect.Effect<void, never, Scope.Scope>
    /** The user did something on this device: resets its idle timer. Cheap; never waits. */
    readonly active: (session: Session) => Effect.Effect<void>
  }
>()("greenroom/actors/Presences") {}
