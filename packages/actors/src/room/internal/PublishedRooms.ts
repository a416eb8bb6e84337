/**
 * The list of public rooms of this server: its pages, and who may list a room.
 *
 * Source: "Published room directory" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import { roomVersion } from "@greenroom/room/RoomVersions"
import {
  type PublicRoomPage,
  type PublicRoomPosition,
  type PublicRoomStart,
  PublicRoomStore,
  type RoomLists
} from "@greenroom/store/PublicRoomStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { parseInstanceId } from "../../app-service/NetworkInstance.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import type { PublicRooms, PublicRoomsRequest } from "../PublicRooms.ts"
import type { RoomSummaryReads } from "./RoomSummaryReads.ts"
import { makeRoomViewer } from "./RoomViewer.ts"

/** The most rooms of one answer, and the number if the client names none. */
const maxPage = 100
const defaultPage = 50

/** How many pages of the list are read for one answer, where rooms are left out for their type. */
const maxPagesRead = 20

/** The start of a page of the list: the members and the number of the room before it, or after it. */
const parseSince = (since: string): Effect.Effect<PublicRoomStart, InvalidParam> => {
  const [, direction, joined, roomNid] = /^([pq])([0-9]{1,9})_([0-9]{1,15})$/.exec(since) ?? []
  return joined === undefined || roomNid === undefined
    ? Effect.fail(new InvalidParam({ error: "since: is not a token of this list" }))
    : Effect.succeed({ joinedMembers: Number(joined), roomNid: Number(roomNid), backwards: direction === "q" })
}

const formatSince = (direction: "p" | "q", { joinedMembers, roomNid }: PublicRoomPosition): string =>
  `${direction}${joinedMembers}_${roomNid}`

export const makePublishedRooms = Effect.fnUntraced(function* ({ held, mayKnow, summarise }: RoomSummaryReads) {
  const { serverName } = yield* HomeServerConfig
  const list = yield* PublicRoomStore
  const roomStore = yield* RoomStore
  const viewer = yield* makeRoomViewer

  /** The lists that a request reads; undefined for an unknown network. */
  const listsOf = ({ allNetworks, network }: PublicRoomsRequest): RoomLists | undefined => {
    if (network === undefined) return allNetworks ? "all" : "own"
    return parseInstanceId(network)
  }

  const publicRooms = Effect.fn("RoomSummaries.publicRooms")(function* (request: PublicRoomsRequest) {
    const lists = listsOf(request)
    if (lists === undefined) return { chunk: [], total_room_count_estimate: 0 } satisfies PublicRooms
    const { search, since, types } = request
    const start = since === undefined ? undefined : yield* parseSince(since)
    // 0 is no limit.
    const limit = Math.min(Math.max((request.limit ?? defaultPage) || maxPage, 1), maxPage)
    const first = yield* list.page(start, limit, search, lists)
    const wantedOf = Effect.fnUntraced(function* ({ rooms }: PublicRoomPage) {
      const summaries = yield* summarise(yield* held(rooms.map(({ roomId }) => roomId)))
      return summaries.filter(({ room_type = null }) => types === undefined || types.includes(room_type))
    })
    let [chunk, next] = [yield* wantedOf(first), first.next]
    // Clients take a page without rooms for the last one.
    for (let read = 1; chunk.length === 0 && next !== undefined && !start?.backwards && read < maxPagesRead; read++) {
      const page: PublicRoomPage = yield* list.page(next, limit, search, lists)
      chunk = yield* wantedOf(page)
      next = page.next
    }
    return {
      chunk,
      ...(next === undefined ? {} : { next_batch: formatSince("p", next) }),
      ...(first.previous === undefined ? {} : { prev_batch: formatSince("q", first.previous) }),
      // The types of rooms that are on other pages are not known.
      ...(types !== undefined || first.total === undefined ? {} : { total_room_count_estimate: first.total })
    } satisfies PublicRooms
  })

  const unknown = (roomId: RoomId) => new NotFound({ error: `There is no room ${roomId}` })

  const mustExist = Effect.fnUntraced(function* (roomId: RoomId) {
    if (Option.isNone(yield* list.isListed(roomId))) return yield* unknown(roomId)
  })

  /** False only for users who may know of the room. For others an unlisted room does not exist. */
  const isListed = Effect.fnUntraced(function* (userId: UserId | undefined, roomId: RoomId) {
    if (Option.contains(yield* list.isListed(roomId), true)) return true
    const [summary] = yield* summarise(yield* held([roomId]))
    return summary !== undefined && (yield* mayKnow(userId, summary)) ? false : yield* unknown(roomId)
  })

  /** Members who may set the canonical alias of the room. */
  const setListed = Effect.fn("RoomSummaries.setListed")(function* (session: Session, roomId: RoomId, listed: boolean) {
    const seen = yield* viewer.view(session.userId, roomId)
    if (!seen.reader.isJoined) return yield* viewer.outside(session.userId, roomId)
    yield* mustExist(roomId)
    const state = yield* viewer.stateOf(seen, {
      keys: [
        ["m.room.create", ""],
        ["m.room.power_levels", ""]
      ]
    })
    const id = yield* roomStore.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    const levels = version?.levels((type, stateKey) =>
      state.find((event) => event.type === type && event.state_key === stateKey)
    )
    if (levels === undefined || levels.user(session.userId) < levels.event("m.room.canonical_alias", true)) {
      return yield* new Forbidden({
        error: `Listing a room on ${serverName} requires the power level to set its canonical alias`
      })
    }
    yield* list.setListed(roomId, listed)
  })

  /** Application services list the rooms of their networks. */
  const setListedIn = Effect.fn("RoomSummaries.setListedIn")(function* (
    session: Session,
    networkId: string,
    roomId: RoomId,
    listed: boolean
  ) {
    const serviceId = session.appService
    if (serviceId === undefined)
      return yield* new Forbidden({ error: "Only application services list rooms in their networks" })
    yield* mustExist(roomId)
    yield* list.setListedIn({ serviceId, networkId }, roomId, listed)
  })

  return { publicRooms, isListed, setListed, setListedIn }
})
