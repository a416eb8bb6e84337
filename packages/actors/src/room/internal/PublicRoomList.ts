/**
 * The list of public rooms, page by page. A token names the last room of a page by its members and its number.
 */
import { BadPagination } from "@greenroom/protocol/MatrixError"
import { maxLimit } from "@greenroom/protocol/Pagination"
import { type PublicRoomPosition, type PublicRoomRow, PublicRoomStore } from "@greenroom/store/PublicRoomStore"
import { Effect } from "effect"
import type { PublicRoom, PublicRoomsQuery } from "../RoomModel.ts"

const toPublicRoom = (room: PublicRoomRow): PublicRoom => ({
  room_id: room.roomId,
  aliases: room.aliases,
  num_joined_members: room.joinedMembers,
  ...(room.name === undefined ? {} : { name: room.name }),
  ...(room.topic === undefined ? {} : { topic: room.topic })
})

const tokenPattern = /^p([0-9]{1,9})_([0-9]{1,15})$/

const writeToken = ({ joinedMembers, roomNid }: PublicRoomPosition): string => `p${joinedMembers}_${roomNid}`

const readToken = (token: string): PublicRoomPosition | undefined => {
  const [, joinedMembers, roomNid] = tokenPattern.exec(token) ?? []
  return joinedMembers === undefined ? undefined : { joinedMembers: Number(joinedMembers), roomNid: Number(roomNid) }
}

/** Reads a page. Errors: M_BAD_PAGINATION. */
export const makePublicRoomList = Effect.map(PublicRoomStore, ({ page }) =>
  Effect.fn("Rooms.publicRooms")(function* ({ from = "START", limit = maxLimit }: PublicRoomsQuery = {}) {
    if (from === "END") return { chunk: [], start: from, end: from }
    const after = readToken(from)
    if (after === undefined && from !== "START") {
      return yield* new BadPagination({ error: "from: expected the end of a page of this list, START or END" })
    }
    const { next, rooms } = yield* page(after, Math.max(1, limit))
    return { chunk: rooms.map(toPublicRoom), start: from, end: next === undefined ? "END" : writeToken(next) }
  })
)
