/**
 * The extensions of sliding sync that are about rooms and the account: account data, receipts, typing. A room that an answer
 * sends for the first time comes with all of them; later answers bring the changes.
 *
 * Source: MSC3959 (account data), MSC3960 (receipts), MSC3961 (typing), as MSC4186 uses them.
 */
import type { SlidingScope, SlidingExtensions as Wanted } from "@greenroom/protocol/client-server/SlidingSyncApi"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { receiptEvents } from "../../presence/ReceiptEvents.ts"
import { pushRulesContent, UserPushRules } from "../../user/push/UserPushRules.ts"
import type { SlidingExtensionAnswers } from "../SlidingAnswer.ts"
import type { SimpleEvent } from "../SyncAnswer.ts"
import type { RoomLists } from "./RoomLists.ts"
import type { WantedRoom } from "./SlidingLists.ts"
import type { SlidingAnswerRoom } from "./SlidingRooms.ts"
import type { SyncUserData } from "./SyncUserData.ts"

/** A room of an answer that the client does not have up to the answer before. */
export interface LateRoom extends WantedRoom {
  /** The position up to which the client has the room; undefined for one that this answer sends for the first time. */
  readonly known: StreamPosition | undefined
}

/** The subject of the extensions. */
interface ExtensionRange {
  readonly userId: UserId
  readonly since: StreamPosition | undefined
  readonly upTo: StreamPosition
  readonly late: ReadonlyArray<LateRoom>
  /** Rooms that the client has up to `since`. */
  readonly live: ReadonlyMap<RoomId, WantedRoom>
  /** The answer's part about each room, by number. */
  readonly answers: ReadonlyMap<number, SlidingAnswerRoom>
}

const scopeOf = ({ lists, rooms }: SlidingScope) => {
  const [listNames, roomIds] = [new Set(lists), new Set(rooms)]
  const isOfRooms = (roomId: RoomId) => rooms == null || roomIds.has("*") || roomIds.has(roomId)
  return (wanted: WantedRoom | undefined): boolean => {
    if (wanted === undefined) return false
    const byList = lists == null ? wanted.lists.length > 0 : wanted.lists.some((name) => listNames.has(name))
    return byList || (wanted.isSubscribed && isOfRooms(wanted.room.roomId))
  }
}

/** One event of a room's receipts: living clients read no more. */
const mergeEvents = (events: ReadonlyArray<SimpleEvent>): SimpleEvent => {
  const content: Record<string, Record<string, Record<string, unknown>>> = {}
  for (const event of events) {
    for (const [eventId, byType] of Object.entries(event.content as typeof content)) {
      for (const [type, byUser] of Object.entries(byType)) {
        content[eventId] = { ...content[eventId], [type]: { ...content[eventId]?.[type], ...byUser } }
      }
    }
  }
  return { type: "m.receipt", content }
}

const isEmpty = (object: object): boolean => Object.keys(object).length === 0

export const makeSlidingExtensions = Effect.fnUntraced(function* (
  lists: RoomLists,
  { typingChanged }: Pick<SyncUserData, "typingChanged">
) {
  const accountData = yield* AccountDataStore
  const receipts = yield* ReceiptStore
  const ephemeral = yield* EphemeralStream
  const pushRules = yield* UserPushRules

  /** All account data that is about no room. The push rules of a user who never changed them are account data too. */
  const globalData = Effect.fnUntraced(function* (userId: UserId) {
    const events: ReadonlyArray<SimpleEvent> = (yield* accountData.ofRooms(userId, ["" as RoomId])).map(
      ({ content, type }) => ({ type, content })
    )
    if (events.some(({ type }) => type === "m.push_rules")) return events
    return [...events, { type: "m.push_rules", content: pushRulesContent(yield* pushRules.ruleset(userId)) }]
  })

  const readAccountData = Effect.fnUntraced(function* (
    { late, live, since, upTo, userId }: ExtensionRange,
    isInScope: (room: WantedRoom | undefined) => boolean
  ) {
    const whole = yield* accountData.ofRooms(
      userId,
      late.filter(isInScope).map(({ room }) => room.roomId)
    )
    const changed = since === undefined ? [] : yield* accountData.read(userId, { after: since, upTo })
    const global =
      since === undefined
        ? yield* globalData(userId)
        : changed.filter(({ roomId }) => roomId === undefined).map(({ content, type }) => ({ type, content }))
    const byRoom = Map.groupBy(
      [...whole, ...changed.filter(({ roomId }) => roomId !== undefined && isInScope(live.get(roomId)))],
      ({ roomId }) => roomId as RoomId
    )
    const found = Object.fromEntries(
      Array.from(byRoom, ([roomId, rows]) => [roomId, rows.map(({ content, type }) => ({ type, content }))])
    )
    if (global.length === 0 && isEmpty(found)) return {}
    return {
      account_data: { ...(global.length === 0 ? {} : { global }), ...(isEmpty(found) ? {} : { rooms: found }) }
    }
  })

  const isJoined = ({ room }: WantedRoom): boolean => room.membership === "join"

  /** The live rooms that may have receipts from after `since`. */
  const liveWithReceipts = ({ live, since }: ExtensionRange): ReadonlyArray<LateRoom> => {
    if (since === undefined) return []
    const roomIds = lists.roomsWithReceipts(since) ?? live.keys()
    return Array.from(roomIds, (roomId) => live.get(roomId))
      .filter((room) => room !== undefined)
      .map((room) => ({ ...room, known: since }))
  }

  const readReceipts = Effect.fnUntraced(function* (
    range: ExtensionRange,
    isInScope: (room: WantedRoom | undefined) => boolean
  ) {
    const { answers, late, upTo, userId } = range
    const joined = [...late, ...liveWithReceipts(range)].filter((room) => isJoined(room) && isInScope(room))
    const first = joined.filter(({ known }) => known === undefined)
    const shown = first.flatMap(
      ({ room }) => answers.get(room.roomNid)?.answer.timeline?.map(({ event_id }) => event_id) ?? []
    )
    const found = [
      ...(yield* receipts.onEvents(
        userId,
        first.map(({ room }) => room.roomNid),
        shown
      ))
    ]
    const changed = joined.filter(({ known, room }) => known !== undefined && lists.hasReceipts(room, known))
    for (const [known, group] of Map.groupBy(changed, ({ known }) => `${known?.xid}.${known?.nid}`)) {
      const after = group[0]?.known
      if (after === undefined || known === undefined) continue
      found.push(
        ...(yield* receipts.read(
          userId,
          group.map(({ room }) => room.roomNid),
          { after, upTo }
        ))
      )
    }
    const byRoom = Map.groupBy(found, ({ roomNid }) => roomNid)
    const events: Record<string, SimpleEvent> = {}
    for (const { room } of joined) {
      const ofRoom = byRoom.get(room.roomNid)
      if (ofRoom !== undefined) events[room.roomId] = mergeEvents(receiptEvents(ofRoom))
    }
    return isEmpty(events) ? {} : { receipts: { rooms: events } }
  })

  const readTyping = Effect.fnUntraced(function* (
    { late, live, since, upTo }: ExtensionRange,
    isInScope: (room: WantedRoom | undefined) => boolean
  ) {
    const events: Record<string, SimpleEvent> = {}
    const add = (roomId: RoomId, user_ids: ReadonlyArray<UserId>) => {
      events[roomId] = { type: "m.typing", content: { user_ids } }
    }
    const changed = since === undefined ? [] : ((yield* typingChanged(since, upTo)) ?? live.keys())
    for (const roomId of changed) {
      const room = live.get(roomId)
      if (room !== undefined && isJoined(room) && isInScope(room)) add(roomId, ephemeral.typing(roomId))
    }
    for (const room of late) {
      if (!isJoined(room) || !isInScope(room)) continue
      const user_ids = ephemeral.typing(room.room.roomId)
      if (user_ids.length > 0) add(room.room.roomId, user_ids)
    }
    return isEmpty(events) ? {} : { typing: { rooms: events } }
  })

  return {
    read: Effect.fnUntraced(function* (
      wanted: Wanted,
      range: ExtensionRange
    ): Effect.fn.Return<SlidingExtensionAnswers> {
      const { account_data, receipts, typing } = wanted
      return {
        ...(account_data?.enabled ? yield* readAccountData(range, scopeOf(account_data)) : {}),
        ...(receipts?.enabled ? yield* readReceipts(range, scopeOf(receipts)) : {}),
        ...(typing?.enabled ? yield* readTyping(range, scopeOf(typing)) : {})
      }
    })
  }
})
