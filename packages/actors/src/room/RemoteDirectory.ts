/**
 * Room aliases and lists of public rooms of other servers. The federation provides the service (`federation/RemoteQueries.ts`).
 */
import type { DirectoryAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { RoomAlias, ServerName } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"
import type { PublicRooms, PublicRoomsRequest } from "./PublicRooms.ts"

export class RemoteDirectory extends Context.Service<
  RemoteDirectory,
  {
    /** The room that the alias names, and servers by which it can be joined. Errors: M_NOT_FOUND. */
    readonly resolve: (alias: RoomAlias) => Effect.Effect<DirectoryAnswer, MatrixError>
    /** A page of the public rooms of another server. Errors: M_NOT_FOUND where it cannot be asked, M_FORBIDDEN. */
    readonly publicRooms: (server: ServerName, request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
  }
>()("greenroom/actors/room/RemoteDirectory") {}
