/**
 * Room aliases of other servers. The federation provides the service (`federation/RemoteQueries.ts`).
 */
import type { DirectoryAnswer } from "@greenroom/protocol/federation/FederationAnswers"
import type { RoomAlias } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, type Effect } from "effect"

export class RemoteDirectory extends Context.Service<
  RemoteDirectory,
  {
    /** The room that the alias names, and servers by which it can be joined. Errors: M_NOT_FOUND. */
    readonly resolve: (alias: RoomAlias) => Effect.Effect<DirectoryAnswer, MatrixError>
  }
>()("greenroom/actors/room/RemoteDirectory") {}
