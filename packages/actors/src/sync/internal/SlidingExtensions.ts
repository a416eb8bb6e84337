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
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { receiptEvents } from "../../presence/ReceiptEvents.ts"
import { pushRulesContent, UserPushRules } from "../../user/push/UserPushRules.ts"
import type { SlidingExtensionAnswers } from "../SlidingAnswer.ts"
import type { SimpleEvent } from "../SyncAnswer.ts"
import type { RoomLists } from "./RoomLists.ts"
import type { WantedRoom } from "./SlidingLists.ts"
import type { SlidingAnswerRoom } from "./SlidingRooms.ts"
import type { SyncRooms } from "./SyncRooms.ts"

/** A room of an answer, with what the client has of it. */
export interface ExtendedRoom extends WantedRoom {
  /** Up to where the client has the room; undefined for one that this answer sends for the first time. */
  readonly known: StreamPosition | undefined
}

/** The subject of the extensions. */
export interface ExtensionRange {
  readonly userId: UserId
  readonly since: StreamPosition | undefined
  readonly upTo: StreamPosition
  readonly rooms: ReadonlyArray<ExtendedRoom>
  /** The rooms of the answer, by number. */
  readonly answers: ReadonlyMap<number, SlidingAnswerRoom>
}

const isInScope =
  ({ lists, rooms }: SlidingScope) =>
  (wanted: WantedRoom): boolean => {
    const byList = lists == null ? wanted.lists.length > 0 : wanted.lists.some((name) => lists.includes(name))
    const bySubscription =
      wanted.isSubscribed && (rooms == null || rooms.includes("*") || rooms.includes(wanted.room.roomId))
    return byList || bySubscription
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
  { typingChanged }: Pick<SyncRooms, "typingChanged">
) {
  const accountData = yield* AccountDataStore
  const receipts = yield* ReceiptStore
  const ephemeral = yield* EphemeralStream
  const pushRules = yield* UserPushRules

  const isLive = ({ known }: ExtendedRoom, since: StreamPosition | undefined): boolean =>
    known !== undefined && since !== undefined && comparePositions(known, since) >= 0

  /** All account data that is about no room. The push rules of a user who never changed them are account data too. */
  const globalData = Effect.fnUntraced(function* (userId: UserId) {
    const events: ReadonlyArray<SimpleEvent> = (yield* accountData.ofRooms(userId, ["" as RoomId])).map(
      ({ content, type }) => ({ type, content })
    )
    if (events.some(({ type }) => type === "m.push_rules")) return events
    return [...events, { type: "m.push_rules", content: pushRulesContent(yield* pushRules.ruleset(userId)) }]
  })

  const readAccountData = Effect.fnUntraced(function* (
    { since, upTo, userId }: ExtensionRange,
    rooms: ReadonlyArray<ExtendedRoom>
  ) {
    const later = rooms.filter((room) => !isLive(room, since)).map(({ room }) => room.roomId)
    const live = new Set(rooms.filter((room) => isLive(room, since)).map(({ room }) => room.roomId))
    const whole = yield* accountData.ofRooms(userId, later)
    const changed = since === undefined ? [] : yield* accountData.read(userId, { after: since, upTo })
    const global =
      since === undefined
        ? yield* globalData(userId)
        : changed.filter(({ roomId }) => roomId === undefined).map(({ content, type }) => ({ type, content }))
    const byRoom = Map.groupBy(
      [...whole, ...changed.filter(({ roomId }) => roomId !== undefined && live.has(roomId))],
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

  const readReceipts = Effect.fnUntraced(function* (
    { answers, upTo, userId }: ExtensionRange,
    rooms: ReadonlyArray<ExtendedRoom>
  ) {
    const joined = rooms.filter(({ room }) => room.membership === "join")
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

  const readTyping = Effect.fnUntraced(function* ({ since, upTo }: ExtensionRange, rooms: ReadonlyArray<ExtendedRoom>) {
    const joined = rooms.filter(({ room }) => room.membership === "join")
    const live = joined.filter((room) => isLive(room, since)).map(({ room }) => room.roomId)
    const changed = since === undefined ? new Set<RoomId>() : yield* typingChanged(since, upTo, live)
    const events: Record<string, SimpleEvent> = {}
    const addTyping = (roomId: RoomId, user_ids: ReadonlyArray<UserId>) => {
      events[roomId] = { type: "m.typing", content: { user_ids } }
    }
    for (const roomId of changed) addTyping(roomId, ephemeral.typing(roomId))
    for (const room of joined) {
      if (isLive(room, since)) continue
      const user_ids = ephemeral.typing(room.room.roomId)
      if (user_ids.length > 0) addTyping(room.room.roomId, user_ids)
    }
    return isEmpty(events) ? {} : { typing: { rooms: events } }
  })

  return {
    read: Effect.fnUntraced(function* (
      wanted: Wanted,
      range: ExtensionRange
    ): Effect.fn.Return<SlidingExtensionAnswers> {
      const roomsOf = (scope: SlidingScope) => range.rooms.filter(isInScope(scope))
      const { account_data, receipts, typing } = wanted
      return {
        ...(account_data?.enabled ? yield* readAccountData(range, roomsOf(account_data)) : {}),
        ...(receipts?.enabled ? yield* readReceipts(range, roomsOf(receipts)) : {}),
        ...(typing?.enabled ? yield* readTyping(range, roomsOf(typing)) : {})
      }
    })
  }
})
