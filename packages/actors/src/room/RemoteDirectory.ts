/**
 * Profiles, room aliases, lists of public rooms and spaces of other servers, and moments in their rooms. The federation provides the
 * service (`federation/RemoteQueries.ts`).
 */
import type { DirectoryAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"
import type { HierarchyPart, PublicRooms, PublicRoomsRequest } from "./PublicRooms.ts"

/** Profiles, aliases, public rooms and spaces of other servers, provided by `federation/RemoteQueries`. */
export class RemoteDirectory extends Context.Service<
  RemoteDirectory,
  {
    /** The fields of the profile that the user's server publishes. Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly profile: (userId: UserId) => Effect.Effect<JsonObject, MatrixError>
    /** The room that the alias names, and servers by which it can be joined. Errors: M_NOT_FOUND. */
    readonly resolve: (alias: RoomAlias) => Effect.Effect<DirectoryAnswer, MatrixError>
    /** A page of the public rooms of another server. Errors: M_NOT_FOUND if it cannot be asked, M_FORBIDDEN. */
    readonly publicRooms: (server: ServerName, request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /** Another server's summary of a room, and of its children if it is a space. Errors: M_NOT_FOUND. */
    readonly hierarchy: (
      server: ServerName,
      roomId: RoomId,
      suggestedOnly: boolean
    ) => Effect.Effect<HierarchyPart, MatrixError>
    /** The event closest to a time, in ms since 1970, in a room that today's dialect is spoken of. Errors: M_NOT_FOUND. */
    readonly eventNear: (
      server: ServerName,
      roomId: RoomId,
      ts: number,
      direction: "f" | "b"
    ) => Effect.Effect<EventId, MatrixError>
  }
>()("greenroom/actors/room/RemoteDirectory") {}
