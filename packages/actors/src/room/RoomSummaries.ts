/**
 * Rooms as users outside see them: the list of public rooms, summaries, and the tree of a space.
 *
 * Rooms in which this server takes no part are described by other servers: those that a space names, or those that the
 * client names.
 *
 * Source: "Published room directory", "Room Summaries" and "Spaces" of the client-server specification.
 */
import { isRoomId, type RoomAlias, type RoomId, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { makePublishedRooms } from "./internal/PublishedRooms.ts"
import { makeRoomSummaryReads } from "./internal/RoomSummaryReads.ts"
import { makeSpaceHierarchies } from "./internal/SpaceHierarchies.ts"
import type {
  HierarchyPage,
  HierarchyRequest,
  HierarchyRoom,
  PublicRooms,
  PublicRoomsRequest,
  RoomSummary
} from "./PublicRooms.ts"
import { RemoteDirectory } from "./RemoteDirectory.ts"
import { Rooms } from "./Rooms.ts"

const noSuchRoom = new NotFound({ error: "There is no such room that you may know of" })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const remote = yield* RemoteDirectory
  const rooms = yield* Rooms
  const reads = yield* makeRoomSummaryReads
  const { held, mayKnow, membershipOf, summarise } = reads
  const { isListed, publicRooms, setListed, setListedIn } = yield* makePublishedRooms(reads)
  const { askOthers, hierarchy, hierarchyFor, localHierarchy } = yield* makeSpaceHierarchies(reads)

  const publicRoomsOf = (server: ServerName, request: PublicRoomsRequest) =>
    server === serverName ? publicRooms(request) : remote.publicRooms(server, request)

  /** A room that other servers know. */
  const remoteSummary = Effect.fnUntraced(function* (roomId: RoomId, via: ReadonlyArray<ServerName>) {
    const ask = yield* askOthers(false)
    const found = yield* ask(roomId, via)
    if (found === undefined) return undefined
    const { children_state: _, ...room } = found
    return room satisfies RoomSummary
  })

  const summary = Effect.fn("RoomSummaries.summary")(function* (
    session: Session | undefined,
    roomIdOrAlias: RoomId | RoomAlias,
    via: ReadonlyArray<ServerName>
  ) {
    const { room_id: roomId, servers } = isRoomId(roomIdOrAlias)
      ? { room_id: roomIdOrAlias, servers: [] }
      : yield* rooms.resolveAlias(roomIdOrAlias)
    const [own] = yield* summarise(yield* held([roomId]))
    if (session === undefined) return own !== undefined && (yield* mayKnow(undefined, own)) ? own : yield* noSuchRoom
    const room = own ?? (yield* remoteSummary(roomId, [...via, ...servers]))
    if (room === undefined || !(yield* mayKnow(session.userId, room))) return yield* noSuchRoom
    return { ...room, membership: yield* membershipOf(session.userId, roomId) }
  })

  return RoomSummaries.of({
    publicRooms,
    publicRoomsOf,
    setListedIn,
    summary,
    hierarchy,
    localHierarchy,
    hierarchyFor,
    isListed,
    setListed
  })
})

/** Public rooms, room summaries, and the hierarchy of a space. */
export class RoomSummaries extends Context.Service<
  RoomSummaries,
  {
    /** The public rooms of this server, the largest first. Anyone. Errors: M_INVALID_PARAM. */
    readonly publicRooms: (request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /** The same of this or another server. Errors: M_NOT_FOUND if it cannot be asked. */
    readonly publicRoomsOf: (server: ServerName, request: PublicRoomsRequest) => Effect.Effect<PublicRooms, MatrixError>
    /**
     * The summary of one room, which the named servers give for a room that this one lacks. Callers: users who are in it, may
     * join it or may read it; without a session, only rooms open to all.
     */
    readonly summary: (
      session: Session | undefined,
      roomIdOrAlias: RoomId | RoomAlias,
      via: ReadonlyArray<ServerName>
    ) => Effect.Effect<RoomSummary & { readonly membership?: string }, MatrixError>
    /** A room and, if it is a space, the rooms in it that the user may know of. Errors: M_FORBIDDEN, M_INVALID_PARAM. */
    readonly hierarchy: (
      session: Session,
      roomId: RoomId,
      request: HierarchyRequest
    ) => Effect.Effect<HierarchyPage, MatrixError>
    /** The same for administrators: every room that this server has, and no others. Errors: M_NOT_FOUND, M_INVALID_PARAM. */
    readonly localHierarchy: (roomId: RoomId, request: HierarchyRequest) => Effect.Effect<HierarchyPage, MatrixError>
    /** A room and its children, as far as users of a server may know of them. Errors: M_NOT_FOUND. */
    readonly hierarchyFor: (
      server: ServerName,
      roomId: RoomId,
      suggestedOnly: boolean
    ) => Effect.Effect<
      {
        readonly room: HierarchyRoom
        /** Without their own children. */
        readonly children: ReadonlyArray<RoomSummary>
        readonly inaccessible_children: ReadonlyArray<RoomId>
      },
      MatrixError
    >
    /** Whether the room is in the list of public rooms. Errors: M_NOT_FOUND, also for a room that the user may not know of. */
    readonly isListed: (userId: UserId | undefined, roomId: RoomId) => Effect.Effect<boolean, MatrixError>
    /** Members with the power to set the canonical alias. */
    readonly setListed: (session: Session, roomId: RoomId, listed: boolean) => Effect.Effect<void, MatrixError>
    /** Lists a room in a network of an application service. That service. Errors: M_FORBIDDEN, M_NOT_FOUND. */
    readonly setListedIn: (
      session: Session,
      networkId: string,
      roomId: RoomId,
      listed: boolean
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/RoomSummaries") {
  static readonly layer = Layer.effect(RoomSummaries, make)
}
