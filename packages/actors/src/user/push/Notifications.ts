/**
 * The notifications of a user: as a list that clients page through, newest first, and for pushers, oldest first.
 *
 * Source: "Listing notifications" of the client-server specification.
 */
import { type ClientServerEvent, toClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { NotificationStore, type StoredNotification } from "@greenroom/store/NotificationStore"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { beginning, comparePositions, positionBefore, type StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer } from "effect"
import { makeIgnoredUsers, nobody } from "../../room/IgnoredUsers.ts"
import { allowAll, makeInvitePermission } from "../../room/InvitePermission.ts"
import { MemberPushRules } from "../../room/MemberPushRules.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeReadToken } from "../../runtime/StreamTokens.ts"
import type { PushAction } from "./PushRule.ts"
import { compileRuleset, evaluate } from "./PushRuleEvaluation.ts"
import { noSettings, rulesetOf } from "./PushRules.ts"
import { readRoom } from "./UnreadCounts.ts"

/** How many notifications a page has by default and at most. */
const defaultPage = 20
const maxPage = 100

/** A notification with the actions of the rule that it met, and whether the user has read the event. */
export interface Notification extends Omit<StoredNotification, "actions"> {
  readonly actions: ReadonlyArray<PushAction>
  readonly read: boolean
  /** Whether the user ignores the sender, or does not want the invitation: such events do not notify. */
  readonly ignored: boolean
}

/** A page of notifications, newest first. */
export interface NotificationPage {
  readonly notifications: ReadonlyArray<{
    readonly actions: ReadonlyArray<PushAction>
    readonly event: ClientServerEvent
    readonly read: boolean
    readonly room_id: RoomId
    readonly ts: number
  }>
  readonly next_token?: string
}

const isInvitation = ({ event: { content, type } }: StoredNotification): boolean =>
  type === "m.room.member" && content.membership === "invite"

const make = Effect.gen(function* () {
  const store = yield* NotificationStore
  const receipts = yield* ReceiptStore
  const rules = yield* MemberPushRules
  const log = yield* EventLog
  const readToken = yield* makeReadToken
  const ignoredUsers = yield* makeIgnoredUsers
  const invitePermission = yield* makeInvitePermission

  /** The action of the default rules for an event that notifies. */
  const defaultActions = (userId: UserId) => {
    const compiled = compileRuleset(rulesetOf(noSettings, userId))
    return ({ event, highlight, joinedMembers }: StoredNotification): ReadonlyArray<PushAction> => {
      const { actions, notify } = evaluate(compiled, { event, memberCount: joinedMembers, mayNotify: () => highlight })
      return notify ? actions : ["notify"]
    }
  }

  /** Whether the user's receipts cover events. */
  const readerOf = Effect.fnUntraced(function* (userId: UserId, found: ReadonlyArray<StoredNotification>) {
    const roomNids = [...new Set(found.map(({ roomNid }) => roomNid))]
    const own = Map.groupBy(yield* receipts.own(userId, roomNids), ({ roomNid }) => roomNid)
    const rooms = new Map(
      roomNids.map((roomNid) => [roomNid, readRoom({ roomNid, joinedAt: beginning }, own.get(roomNid) ?? [])])
    )
    return ({ position, roomNid, threadId }: StoredNotification): boolean => {
      const { after, mainAfter, threads } = rooms.get(roomNid)!
      const readTo = threadId === undefined ? mainAfter : (threads.get(threadId) ?? after)
      return comparePositions(position, readTo) <= 0 || comparePositions(position, after) <= 0
    }
  })

  const read = Effect.fnUntraced(function* (
    userId: UserId,
    query: Omit<Parameters<NotificationStore["Service"]["page"]>[0], "userId" | "rowsSince">
  ): Effect.fn.Return<ReadonlyArray<Notification>> {
    const found = yield* store.page({ ...query, userId, rowsSince: rules.since(userId) })
    const isRead = yield* readerOf(userId, found)
    const ignored = found.length === 0 ? nobody : yield* ignoredUsers.of(userId)
    const verdict = found.some(isInvitation) ? yield* invitePermission.of(userId) : allowAll
    const actionsOf = defaultActions(userId)
    return found.map((entry) => ({
      ...entry,
      actions: entry.actions ?? actionsOf(entry),
      read: isRead(entry),
      ignored: ignored.has(entry.event.sender) || (isInvitation(entry) && verdict(entry.event.sender) !== "allow")
    }))
  })

  const list = Effect.fn("Notifications.list")(function* (
    session: Session,
    options: {
      readonly from?: string | undefined
      readonly limit?: number | undefined
      readonly onlyHighlights: boolean
    }
  ): Effect.fn.Return<NotificationPage, MatrixError> {
    const { from, onlyHighlights } = options
    const upTo =
      from === undefined
        ? yield* Effect.andThen(log.caughtUp, log.currentPosition)
        : yield* Effect.mapBoth(readToken(from), {
            onFailure: ({ reason }) => new InvalidParam({ error: `from: ${reason}` }),
            onSuccess: ({ position }) => position
          })
    const limit = Math.max(1, Math.min(options.limit ?? defaultPage, maxPage))
    const found = yield* read(session.userId, { after: beginning, upTo, order: "newest", limit, onlyHighlights })
    const last = found.length === limit ? found.at(-1) : undefined
    return {
      notifications: found
        .filter(({ ignored }) => !ignored)
        .map(({ actions, event, read, roomId }) => ({
          actions,
          event: toClientServerEvent(event),
          read,
          room_id: roomId,
          ts: event.origin_server_ts
        })),
      ...(last === undefined ? {} : { next_token: yield* log.tokenOf(positionBefore(last.position)) })
    }
  })

  return Notifications.of({
    list,
    after: (userId, after, upTo, limit) => read(userId, { after, upTo, order: "oldest", limit })
  })
})

/** The notifications of a user. */
export class Notifications extends Context.Service<
  Notifications,
  {
    /** A page of what notified the user, newest first. Errors: M_INVALID_PARAM. */
    readonly list: (
      session: Session,
      options: {
        readonly from?: string | undefined
        readonly limit?: number | undefined
        readonly onlyHighlights: boolean
      }
    ) => Effect.Effect<NotificationPage, MatrixError>
    /** The notifications of the user between two positions of the log, oldest first. */
    readonly after: (
      userId: UserId,
      after: StreamPosition,
      upTo: StreamPosition,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Notification>>
  }
>()("greenroom/actors/Notifications") {
  static readonly layer = Layer.effect(Notifications, make)
}
