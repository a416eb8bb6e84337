/**
 * The servers through which a user of this one reaches a room (`via`).
 */
import { type RoomId, type ServerName, serverNameOf, serverPartOf, type UserId } from "@greenroom/protocol/Identifiers"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { Room } from "../RoomProtocol.ts"

/** How many servers are tried that were in the room when this one left it. */
const maxFormer = 5

export const makeViaServers = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const roomServers = yield* RoomServerStore

  /** Whether this server takes part in the room; `unknown` if it has never heard of it. */
  const participation = (roomId: RoomId) =>
    ask(room(roomId).Servers()).pipe(
      Effect.map((servers) => (servers.includes(serverName) ? "here" : "elsewhere")),
      Effect.catch(({ _tag }) => Effect.succeed(_tag === "M_NOT_FOUND" ? "unknown" : "elsewhere"))
    )

  /** Whether this server takes part in the room. */
  const isHere = (roomId: RoomId) => Effect.map(participation(roomId), (found) => found === "here")

  /** Some servers that were in the room when this one left it. They may have left since. */
  const formerServers = (roomId: RoomId) =>
    Effect.map(roomServers.serversOf([roomId]), (found) =>
      (found.get(roomId) ?? []).filter((server) => server !== serverName).slice(0, maxFormer)
    )

  /**
   * Servers through which a remote room can be reached: the inviter's, those that are named, and those that are known from an earlier
   * membership. The server in the room ID may have left long ago: it is tried where no other server is known.
   */
  const serversFor = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId, named: ReadonlyArray<ServerName>) {
    const membership = yield* rooms.membership(userId, roomId)
    const inviter = Option.isSome(membership) ? [serverNameOf(membership.value.sender)] : []
    return candidates(roomId, [...inviter, ...named, ...(yield* formerServers(roomId))])
  })

  const candidates = (roomId: RoomId, known: ReadonlyArray<ServerName>): ReadonlyArray<ServerName> => {
    const others = [...new Set(known)].filter((server) => server !== serverName)
    const maker = serverPartOf(roomId)
    return others.length > 0 || maker === undefined || maker === serverName ? others : [maker]
  }

  /**
   * The servers through which a user enters a room that this one takes no part in; none where it does. A room of our own that we
   * have lost, as after a restore of a backup, is entered through others like any other.
   */
  const serversOutside = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    named: ReadonlyArray<ServerName>
  ) {
    const found = yield* participation(roomId)
    if (found === "here") return []
    return found === "unknown" ? candidates(roomId, named) : yield* serversFor(userId, roomId, named)
  })

  return { isHere, serversFor, serversOutside }
})

export type ViaServers = Effect.Success<typeof makeViaServers>
