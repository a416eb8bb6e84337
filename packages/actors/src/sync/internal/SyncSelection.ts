/**
 * Which rooms of the user a `/sync` answer has: joined ones with news, and those that the user has left since the former answer.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { allowsRoom } from "@greenroom/protocol/client-server/Filter"
import { ForgottenRoomStore } from "@greenroom/store/ForgottenRoomStore"
import { comparePositions } from "@greenroom/store/StreamToken"
import { type MembershipAt, SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { hasLeft, type Reading, type SyncRange } from "./SyncRange.ts"

const partition = <A>(all: ReadonlyArray<A>, isFirst: (item: A) => boolean) =>
  [all.filter(isFirst), all.filter((item) => !isFirst(item))] as const

export const makeSyncSelection = Effect.gen(function* () {
  const store = yield* SyncStore
  const forgotten = yield* ForgottenRoomStore

  /** The user's rooms that may be in the answer, by what is sent of them. */
  return Effect.fnUntraced(function* (range: SyncRange) {
    const { filter, fullState, roomNids, session, since, upTo } = range
    const passes = allowsRoom(filter.room)
    const memberships = (yield* store.memberships(session.userId, upTo, since, roomNids)).filter(({ roomId }) =>
      passes(roomId)
    )
    const isNew = ({ changedAt }: MembershipAt) => since === undefined || comparePositions(changedAt, since) > 0
    const joined = memberships.filter(({ membership }) => membership === "join")
    const sendsLeft = since !== undefined || (filter.room?.include_leave ?? false)
    const forgottenRooms = since === undefined && sendsLeft ? yield* forgotten.of(session.userId) : undefined
    const left = memberships.filter(
      (room) =>
        sendsLeft &&
        hasLeft(room.membership) &&
        isNew(room) &&
        (forgottenRooms?.get(room.roomNid) ?? -1) < room.changedAt.xid
    )
    const [leftInside, leftOutside] = partition(left, (room) => room.before === "join" || room.previous === "join")
    const entered = new Set(
      joined.filter((room) => isNew(room) && room.before !== "join").map(({ roomNid }) => roomNid)
    )
    const joinedNids = joined.map(({ roomNid }) => roomNid)
    const withNews =
      since === undefined || fullState ? new Set(joinedNids) : yield* store.roomsWithNews(joinedNids, since, upTo)
    const reading = [
      ...joined
        .filter(({ roomNid }) => withNews.has(roomNid) || entered.has(roomNid))
        .map((room): Reading => ({ ...room, known: entered.has(room.roomNid) ? undefined : since, end: upTo })),
      ...leftInside.map(
        (room): Reading => ({ ...room, known: room.before === "join" ? since : undefined, end: room.changedAt })
      )
    ]
    const newToClient = since === undefined ? new Set(joinedNids) : entered
    return { changed: memberships.filter(isNew), entered, joined, leftInside, leftOutside, newToClient, reading }
  })
})
