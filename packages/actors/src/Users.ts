/**
 * People: profiles and presence lists. Changes are messages to the `User` actor of that user.
 *
 * Source: "Profiles" and "Presence" of the specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"
import type { PresenceContent } from "./Rooms.ts"
import type { Session } from "./Session.ts"

/** Who may see a profile field: all, who shares a room, whom the user accepted, nobody. */
export type Visibility = "public" | "rooms" | "contacts" | "private"

export interface PresenceListEntry extends PresenceContent {
  readonly accepted: boolean
}

export class Users extends Context.Service<
  Users,
  {
    /** Any user, what the visibility of each field lets them see. */
    readonly profile: (session: Session, userId: UserId) => Effect.Effect<JsonObject, MatrixError>
    /** As `profile`. The field in an object: `{"displayname": "Alice"}`. Errors: M_NOT_FOUND. */
    readonly profileField: (session: Session, userId: UserId, field: string) => Effect.Effect<JsonObject, MatrixError>
    /** The user alone. `displayname` and `avatar_url` are strings and always public; null removes the field. */
    readonly setProfileField: (
      session: Session,
      userId: UserId,
      field: string,
      value: Json,
      visibility?: Visibility
    ) => Effect.Effect<void, MatrixError>

    /** The user alone. */
    readonly presenceList: (
      session: Session,
      userId: UserId
    ) => Effect.Effect<ReadonlyArray<PresenceListEntry>, MatrixError>
    /** The user alone. Invites users to be on the list, and drops users from it. */
    readonly updatePresenceList: (
      session: Session,
      userId: UserId,
      change: { readonly invite?: ReadonlyArray<UserId>; readonly drop?: ReadonlyArray<UserId> }
    ) => Effect.Effect<void, MatrixError>
    /** The user alone: answers an invitation to be on somebody's list. */
    readonly answerPresenceInvite: (
      session: Session,
      observer: UserId,
      accept: boolean
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Users") {}
