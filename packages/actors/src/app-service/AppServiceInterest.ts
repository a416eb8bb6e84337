/**
 * The part of the log that concerns an application service: its users, the rooms they are in, and the rooms and aliases that
 * it has registered.
 *
 * Source: "Registration" and "Pushing events" of the application service API.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import type { StreamedEvent, StreamedMembership } from "@greenroom/store/LogSlice"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { RoomStore } from "@greenroom/store/RoomStore"
import { beginning, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect, Option } from "effect"
import type { AppService } from "./AppServices.ts"

/** How many rooms are remembered, the oldest forgotten first. */
const maxRooms = 20_000
/** How long the aliases of a room are remembered, in milliseconds. */
const aliasesKeptFor = 10_000

interface KnownRoom {
  readonly roomNid: number
  /** The joined users of the service. */
  readonly joined: Set<UserId>
  hasAlias: boolean
  aliasesReadAt: number
  /** The number of changes of aliases that were known then. */
  changes: number
}

const memberOf = ({ state_key, type }: Event): UserId | undefined =>
  type === "m.room.member" ? (state_key as UserId) : undefined

/** The interest of one application service. */
export const makeAppServiceInterest = Effect.fnUntraced(function* (service: AppService) {
  const rooms = yield* RoomStore
  const directory = yield* DirectoryStore
  const known = new Map<RoomId, KnownRoom>()
  let changes = 0
  /** How far the log has been read. A service that was away is far behind the present: rooms are read as they were there. */
  let position = beginning

  const readAliases = Effect.fnUntraced(function* (roomId: RoomId) {
    return service.hasAliases && (yield* directory.aliasesOf(roomId)).some(service.hasAlias)
  })

  const roomOf = Effect.fnUntraced(function* (roomNid: number, roomId: RoomId, at: StreamPosition) {
    const now = yield* monotonicMillis
    const found = known.get(roomId)
    if (found !== undefined) {
      if (service.hasAliases && (found.changes !== changes || now - found.aliasesReadAt > aliasesKeptFor)) {
        found.hasAlias = yield* readAliases(roomId)
        found.aliasesReadAt = now
        found.changes = changes
      }
      return found
    }
    const joined = new Set((yield* rooms.joinedAt(roomNid, at)).filter(service.hasUser))
    const room: KnownRoom = { roomNid, joined, hasAlias: yield* readAliases(roomId), aliasesReadAt: now, changes }
    setNewest(known, roomId, room, maxRooms)
    return room
  })

  const isRoomWanted = (roomId: RoomId, { hasAlias, joined }: KnownRoom) =>
    joined.size > 0 || hasAlias || service.hasRoom(roomId)

  /**
   * Whether the service is sent an event, with the memberships that it changes. Pass the events in the order of the log: the memberships
   * in force decide about the events after them, which may be others than the last membership event has.
   */
  const wantsEvent = Effect.fnUntraced(function* (
    { event, position, roomNid }: StreamedEvent,
    changes: ReadonlyArray<StreamedMembership>
  ) {
    const room = yield* roomOf(roomNid, event.room_id, positionBefore(position))
    const before = isRoomWanted(event.room_id, room)
    const own = changes.filter(({ userId }) => service.hasUser(userId))
    for (const { membership, userId } of own) {
      if (membership === "join") room.joined.add(userId)
      else room.joined.delete(userId)
    }
    const member = memberOf(event)
    return (
      before || own.length > 0 || service.hasUser(event.sender) || (member !== undefined && service.hasUser(member))
    )
  })

  const numberOf = (roomId: RoomId) =>
    Effect.map(rooms.currentState(roomId), (current) => Option.getOrUndefined(current)?.roomNid)

  /** The room's number where the service wants to know of it. Costs no query for a room that is remembered. */
  const wantedRoom = Effect.fnUntraced(function* (roomId: RoomId) {
    const roomNid = known.get(roomId)?.roomNid ?? (yield* numberOf(roomId))
    if (roomNid === undefined) return undefined
    return isRoomWanted(roomId, yield* roomOf(roomNid, roomId, position)) ? roomNid : undefined
  })

  /** The users of the service that are in a room of which it was told. */
  const usersIn = (roomId: RoomId): Iterable<UserId> => known.get(roomId)?.joined ?? []

  /** Whether a user is the service's, or is in a room of which the service wants to know. */
  const mayKnow = Effect.fnUntraced(function* (userId: UserId) {
    if (service.hasUser(userId)) return true
    for (const roomId of yield* rooms.joinedRooms(userId)) {
      if ((yield* wantedRoom(roomId)) !== undefined) return true
    }
    return false
  })

  /** Call it after aliases change: aliases of rooms are read again before their next use. */
  const aliasesChanged = () => {
    changes++
  }

  /** The log is read from this position on: what is remembered is of another one. */
  const begin = (from: StreamPosition) => {
    known.clear()
    position = from
  }

  /** The events up to this position were passed. */
  const reached = (upTo: StreamPosition) => {
    position = upTo
  }

  return { begin, reached, wantsEvent, wantedRoom, usersIn, mayKnow, aliasesChanged }
})

/** Selects the events and users that an application service receives. */
export type AppServiceInterest = Effect.Success<ReturnType<typeof makeAppServiceInterest>>
