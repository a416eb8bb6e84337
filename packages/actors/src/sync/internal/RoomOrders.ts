/**
 * The rooms of a user in the order of their last events, one order for each filter. An order is kept, and the rooms that had
 * events meanwhile are moved when it is asked for. Used by `RoomLists`.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import type { RecentMoves } from "./RecentMoves.ts"

export interface UserRoom {
  readonly roomNid: number
  readonly roomId: RoomId
  readonly membership: string
  /** The position at which the membership began, or of the room's last event when the list was read. */
  readonly changedAt: StreamPosition
  /** Whether the room is in the user's list: left rooms are only sent to clients that know them. */
  readonly listed: boolean
}

/** The rooms of a user. */
export interface UserRooms {
  /** Keys: numbers of rooms. */
  readonly rooms: ReadonlyMap<number, UserRoom>
  /** Rises with each change of a membership or of encryption, and of the account data that decide which rooms a list shows. */
  readonly version: number
}

/** The rooms that are in a user's list and pass a filter. */
export interface RoomOrder {
  readonly version: number
  /** The most recent last. */
  readonly rooms: Array<UserRoom>
  readonly hasInvitations: boolean
  /** How many moves are in the order. */
  moves: number
}

/** The rooms of a user with their orders. */
export interface OrderedRooms extends UserRooms {
  /** Keys: filters; the list without a filter has the empty key. Least recently used first. */
  readonly orders: Map<string, RoomOrder>
}

/** How many filters the rooms of a user are kept in order for. */
const maxOrders = 16

/** A list is sorted again if more rooms than this moved since it was read last. */
const maxMoved = 100

/** `standing` is the position by which a room is sorted, `moves` are the rooms that had events. */
export const makeRoomOrders = (standing: (room: UserRoom) => StreamPosition, moves: RecentMoves<number>) => {
  /** Puts a room where it stands, coming from the end: it had the last event of all of them a moment ago. */
  const insert = (rooms: Array<UserRoom>, room: UserRoom) => {
    const at = standing(room)
    let index = rooms.length
    while (index > 0 && comparePositions(standing(rooms[index - 1]!), at) > 0) index--
    rooms.splice(index, 0, room)
  }

  const sorted = ({ rooms, version }: OrderedRooms, passes: (room: UserRoom) => boolean): RoomOrder => {
    const listed = Array.from(rooms.values()).filter((room) => room.listed && passes(room))
    const standings = listed.map((room) => ({ room, at: standing(room) }))
    standings.sort((a, b) => comparePositions(a.at, b.at))
    return {
      version,
      rooms: standings.map(({ room }) => room),
      hasInvitations: listed.some(({ membership }) => membership === "invite"),
      moves: moves.end
    }
  }

  /** Moves the rooms that had events since the order was read. False if it must be made again. */
  const follow = (list: OrderedRooms, order: RoomOrder): boolean => {
    const moved = order.version === list.version ? moves.from(order.moves) : undefined
    if (moved === undefined || moved.length > maxMoved) return false
    order.moves = moves.end
    for (const roomNid of new Set(moved)) {
      const room = list.rooms.get(roomNid)
      const index = room?.membership === "join" ? order.rooms.lastIndexOf(room) : -1
      if (room === undefined || index === -1) continue
      order.rooms.splice(index, 1)
      insert(order.rooms, room)
    }
    return true
  }

  const keep = (list: OrderedRooms, name: string, order: RoomOrder): RoomOrder => {
    list.orders.delete(name)
    list.orders.set(name, order)
    for (const oldest of list.orders.keys()) {
      if (list.orders.size <= maxOrders) break
      list.orders.delete(oldest)
    }
    return order
  }

  /** The order that is kept under a name, if it is one of this version. */
  const known = (list: OrderedRooms, name: string): RoomOrder | undefined => {
    const order = list.orders.get(name)
    return order !== undefined && follow(list, order) ? keep(list, name, order) : undefined
  }

  return { keep, known, sorted }
}
