/**
 * Room aliases: where they point, and joining by them.
 *
 * Source: "Room structure" of the draft, "Room aliases" of the client-server specification.
 */
import {
  isRoomId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { AccountStore } from "@greenroom/store/AccountStore"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { AppServiceQueries } from "../../app-service/AppServiceQueries.ts"
import { AppServices } from "../../app-service/AppServices.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../../runtime/Limits.ts"
import type { Session } from "../../runtime/Session.ts"
import { RemoteDirectory } from "../RemoteDirectory.ts"
import { makeRoomLevels } from "../RoomLevels.ts"
import { RoomSuccession } from "../RoomSuccession.ts"
import { makePredecessorOf } from "./Predecessor.ts"
import type { RoomRequests } from "./RoomRequests.ts"

export const makeRoomDirectory = Effect.fnUntraced(function* (requests: RoomRequests) {
  const { limits, serverName } = yield* HomeServerConfig
  const directory = yield* DirectoryStore
  const accounts = yield* AccountStore
  const rooms = yield* RoomStore
  const levelsFor = yield* makeRoomLevels
  const remote = yield* RemoteDirectory
  const appServices = yield* AppServices
  const appServiceQueries = yield* AppServiceQueries
  const succession = yield* RoomSuccession
  const predecessorOf = yield* makePredecessorOf

  const resolveAlias = Effect.fn("Rooms.resolveAlias")(function* (alias: RoomAlias) {
    let found = yield* directory.find(alias)
    if (Option.isNone(found) && serverNameOf(alias) !== serverName) return yield* remote.resolve(alias)
    if (Option.isNone(found) && (yield* appServiceQueries.makesAlias(alias))) found = yield* directory.find(alias)
    if (Option.isNone(found)) return yield* new NotFound({ error: `There is no room alias ${alias}` })
    return { room_id: found.value.roomId, servers: found.value.servers }
  })

  const join = Effect.fn("Rooms.join")(function* (
    session: Session,
    roomIdOrAlias: RoomId | RoomAlias,
    content: JsonObject = {},
    txnId?: string,
    named: ReadonlyArray<ServerName> = []
  ) {
    const { room_id, servers } = isRoomId(roomIdOrAlias)
      ? { room_id: roomIdOrAlias, servers: [] }
      : yield* resolveAlias(roomIdOrAlias as RoomAlias)
    const joined = yield* requests.joinRoom(session, room_id, content, txnId, [...servers, ...named])
    const predecessor = yield* predecessorOf(room_id)
    if (predecessor !== undefined) yield* succession.inherit(session.userId, predecessor, room_id)
    return joined
  })

  const isJoined = Effect.fnUntraced(function* (session: Session, roomId: RoomId) {
    const membership = yield* rooms.membership(session.userId, roomId)
    return Option.isSome(membership) && membership.value.membership === "join"
  })

  /** Whether the room has m.room.aliases events. Today's specification has none, in no version. */
  const hasAliasEvents = (roomId: RoomId) =>
    Effect.map(rooms.version(roomId), (id) => Option.exists(id, (version) => isDraft({ id: version })))

  /** Sends m.room.aliases with these aliases of this server, in rooms that have such events. */
  const announce = Effect.fnUntraced(function* (session: Session, roomId: RoomId, all: ReadonlyArray<RoomAlias>) {
    if (!(yield* hasAliasEvents(roomId))) return
    const content = { aliases: all.filter((alias) => serverNameOf(alias) === serverName) }
    yield* requests.propose(session, roomId, { type: "m.room.aliases", stateKey: serverName, content }, {})
  })

  const setAlias = Effect.fn("Rooms.setAlias")(function* (
    session: Session,
    alias: RoomAlias,
    roomId: RoomId,
    servers?: ReadonlyArray<ServerName>
  ) {
    if (serverNameOf(alias) !== serverName) {
      return yield* new InvalidParam({ error: `room_alias: ${alias} does not belong to ${serverName}` })
    }
    const appService = appServices.withId(session.appService)
    yield* appServices.mayManageAlias(alias, appService)
    // An application service names rooms in its namespace, also those that none of its users is in.
    const isItsOwn = appService?.hasAlias(alias) === true
    if (!isItsOwn && !(yield* isJoined(session, roomId))) {
      return yield* new Forbidden({ error: `You are not in ${roomId}` })
    }
    if (!(yield* rooms.exists(roomId))) return yield* new NotFound({ error: `There is no room ${roomId}` })
    const { aliases } = { ...defaultLimits, ...limits }
    const entry = { roomId, servers: [...new Set([serverName, ...(servers ?? [])])], creator: session.userId }
    const isNew = yield* directory.create(alias, entry, isItsOwn ? undefined : aliases)
    // Without the power to send it the event is omitted.
    if (isNew) {
      yield* announce(session, roomId, yield* directory.aliasesOf(roomId)).pipe(
        Effect.catchTag("M_FORBIDDEN", () => Effect.void)
      )
    }
    return isNew
  })

  /** Whether the user may send the event that lists the room's aliases. Anybody in the room may name further aliases for it. */
  const hasPowerOverAliases = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    const levels = yield* levelsFor(userId, roomId)
    const type = (yield* hasAliasEvents(roomId)) ? "m.room.aliases" : "m.room.canonical_alias"
    return Option.isSome(levels) && levels.value.user(userId) >= levels.value.event(type, true)
  })

  const isAdministrator = (userId: UserId) =>
    Effect.map(accounts.find(userId), (account) => Option.isSome(account) && account.value.admin)

  const removeAlias = Effect.fn("Rooms.removeAlias")(function* (session: Session, alias: RoomAlias) {
    const found = yield* directory.find(alias)
    if (Option.isNone(found) || serverNameOf(alias) !== serverName) {
      return yield* new NotFound({ error: `There is no room alias ${alias} on ${serverName}` })
    }
    const { creator, roomId } = found.value
    // An administrator can remove aliases of abandoned rooms without being a member.
    const isAdmin = yield* isAdministrator(session.userId)
    const appService = appServices.withId(session.appService)
    if (!isAdmin) yield* appServices.mayManageAlias(alias, appService)
    const isFree = isAdmin || appService !== undefined || creator === session.userId
    if (!isFree && !(yield* hasPowerOverAliases(session.userId, roomId))) {
      return yield* new Forbidden({
        error:
          "An alias is removed by its creator, by those who may set the room's state, by the application service of its " +
          "namespace, or by an administrator"
      })
    }
    const remaining = (yield* directory.aliasesOf(roomId)).filter((entry) => entry !== alias)
    const announced = announce(session, roomId, remaining)
    yield* isFree ? Effect.ignore(announced) : announced
    yield* directory.remove(alias)
  })

  return { resolveAlias, join, setAlias, removeAlias }
})
