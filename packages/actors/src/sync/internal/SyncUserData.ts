/**
 * The parts of a user's rooms in `/sync` that are no events: account data, receipts and typing.
 *
 * Source: "Client Config", "Receipts" and "Typing Notifications" of the client-server specification.
 */
import { compileFilter } from "@greenroom/protocol/client-server/Filter"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { EventLog } from "@greenroom/store/EventLog"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { comparePositions, formatToken, type StreamPosition } from "@greenroom/store/StreamToken"
import type { MembershipAt } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { receiptEvents } from "../../presence/ReceiptEvents.ts"
import type { SimpleEvent, SyncedRoom } from "../SyncAnswer.ts"
import type { SyncRange } from "./SyncRange.ts"

export const makeSyncUserData = Effect.gen(function* () {
  const log = yield* EventLog
  const receipts = yield* ReceiptStore
  const accountData = yield* AccountDataStore
  const ephemeralStream = yield* EphemeralStream

  /**
   * The rooms whose typing changed; undefined if some changes are forgotten. Then the typing of all rooms is sent, so that
   * no user is shown as typing for ever.
   */
  const typingChanged = (since: StreamPosition, upTo: StreamPosition) =>
    Effect.map(ephemeralStream.since(since), ({ complete, updates }): ReadonlySet<RoomId> | undefined =>
      complete
        ? new Set(
            updates
              .filter((update) => update._tag === "typing")
              .filter(({ position }) => comparePositions(position, upTo) <= 0)
              .map(({ roomId }) => roomId)
          )
        : undefined
    )

  /** Account data, receipts and changes of typing in the user's rooms. */
  const readUserData = Effect.fnUntraced(function* (
    { session, since, upTo }: SyncRange,
    joined: ReadonlyArray<MembershipAt>,
    newToClient: ReadonlySet<number>
  ) {
    const written = since === undefined ? undefined : { after: since, upTo }
    const fresh = joined.filter(({ roomNid }) => newToClient.has(roomNid)).map(({ roomNid }) => roomNid)
    const others = joined.filter(({ roomNid }) => !newToClient.has(roomNid)).map(({ roomNid }) => roomNid)
    const [data, newReceipts, allReceipts] = yield* Effect.all([
      accountData.read(session.userId, written),
      written === undefined ? Effect.succeed([]) : receipts.read(session.userId, others, written),
      receipts.ofRooms(session.userId, fresh)
    ])
    const typingRooms = since === undefined ? new Set<RoomId>() : yield* typingChanged(since, upTo)
    return { data, receipts: [...newReceipts, ...allReceipts], typingRooms }
  })

  /** Adds the user's data to the answers of rooms. Returns the account data that is of no room. */
  const addUserData = (
    { filter, session, upTo }: SyncRange,
    joined: ReadonlyArray<MembershipAt>,
    newToClient: ReadonlySet<number>,
    { data, receipts, typingRooms }: Effect.Success<ReturnType<typeof readUserData>>,
    answers: Map<RoomId, SyncedRoom>
  ) => {
    const roomFilter = filter.room
    const byNid = new Map(joined.map((room) => [room.roomNid, room.roomId]))
    const isJoined = new Set(byNid.values())
    const dataPasses = compileFilter(roomFilter?.account_data)
    const dataByRoom = new Map<RoomId, Array<SimpleEvent>>()
    const global: Array<SimpleEvent> = []
    const globalPasses = compileFilter(filter.account_data)
    for (const { content, roomId, type } of data) {
      const event = { type, content }
      if (roomId === undefined) {
        if (globalPasses({ ...event, sender: session.userId, room_id: "" as RoomId })) global.push(event)
      } else if (isJoined.has(roomId) && dataPasses({ ...event, sender: session.userId, room_id: roomId })) {
        const known = dataByRoom.get(roomId)
        if (known === undefined) dataByRoom.set(roomId, [event])
        else known.push(event)
      }
    }
    const ephemeralPasses = compileFilter(roomFilter?.ephemeral)
    const receiptsByRoom = Map.groupBy(receipts, ({ roomNid }) => roomNid)
    for (const [roomNid, roomId] of byNid) {
      const roomData = dataByRoom.get(roomId)
      const seen = receiptsByRoom.get(roomNid)
      const lastTyping = ephemeralStream.lastTyping(roomId)
      const typing = (newToClient.has(roomNid) ? lastTyping !== undefined : (typingRooms?.has(roomId) ?? true))
        ? [{ type: "m.typing", content: { user_ids: lastTyping ?? [] } }]
        : []
      const ephemeral = [...typing, ...(seen === undefined ? [] : receiptEvents(seen))].filter((event) =>
        ephemeralPasses({ ...event, content: {}, sender: session.userId, room_id: roomId })
      )
      if (roomData === undefined && ephemeral.length === 0) continue
      const answer = answers.get(roomId) ?? {
        timeline: { events: [], limited: false, prev_batch: formatToken({ position: upTo, epoch: log.epoch() }) }
      }
      answers.set(roomId, {
        ...answer,
        ...(roomData === undefined ? {} : { account_data: { events: roomData } }),
        ...(ephemeral.length === 0 ? {} : { ephemeral: { events: ephemeral } })
      })
    }
    return global
  }

  return { typingChanged, readUserData, addUserData }
})

export type SyncUserData = Effect.Success<typeof makeSyncUserData>
