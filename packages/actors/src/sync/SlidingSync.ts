/**
 * Simplified sliding sync: the updates of the rooms in the windows of a client's lists, and waiting for them.
 *
 * A connection stores which rooms its client has, and with which settings. A room that was in the last answer is live: the
 * client has it up to the position of that answer. For each other room the connection stores the position up to which it was
 * sent. An answer with the same rooms as the last one therefore writes nothing.
 *
 * Source: MSC4186.
 */
import type { SlidingSyncBody } from "@greenroom/protocol/client-server/SlidingSyncApi"
import { type MatrixError, UnknownPos } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { withAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { ConnectionKey, SlidingConnection } from "@greenroom/store/SlidingConnectionStore"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { Feeds } from "./Feeds.ts"
import { afterSends } from "./internal/OwnEchoes.ts"
import { makeRoomLists } from "./internal/RoomLists.ts"
import { formatPos, makeSlidingConnections, parsePos, type SlidingPosition } from "./internal/SlidingConnections.ts"
import { makeSlidingDevices } from "./internal/SlidingDevices.ts"
import { makeSlidingExtensions } from "./internal/SlidingExtensions.ts"
import { makeSlidingLists } from "./internal/SlidingLists.ts"
import { makeSlidingPlans } from "./internal/SlidingPlans.ts"
import { checkRequest } from "./internal/SlidingRequest.ts"
import { makeSlidingRooms } from "./internal/SlidingRooms.ts"
import { makeStrippedRooms } from "./internal/StrippedRooms.ts"
import { makeSyncUserData } from "./internal/SyncUserData.ts"
import type { SlidingAnswer } from "./SlidingAnswer.ts"

/** A request of simplified sliding sync. */
export interface SlidingSyncRequest {
  /** The `pos` of the former answer. */
  readonly pos?: string | undefined
  /** How long to wait for news, in ms. */
  readonly timeout: number
  readonly body: SlidingSyncBody
}

/** The longest that anybody waits, in ms. */
const maxTimeout = 300_000

const none: SlidingConnection = { connection: 0, version: 0, configs: [], rooms: new Map() }

const unknownPos = new UnknownPos({ error: "pos: this position is not kept any more; begin anew without it" })

const make = Effect.gen(function* () {
  const log = yield* EventLog
  const feeds = yield* Feeds
  const lists = yield* makeRoomLists
  const connections = yield* makeSlidingConnections
  const wantedRooms = yield* makeSlidingLists(lists)
  const planOf = makeSlidingPlans(lists, wantedRooms)
  const rooms = yield* makeSlidingRooms(yield* makeStrippedRooms)
  const extensions = yield* makeSlidingExtensions(lists, yield* makeSyncUserData)
  const devices = yield* makeSlidingDevices

  const positionOf = (pos: string): Effect.Effect<SlidingPosition, UnknownPos> =>
    Effect.gen(function* () {
      const parsed = parsePos(pos)
      if (Option.isNone(parsed) || (yield* log.isLost(parsed.value.token))) return yield* unknownPos
      return parsed.value
    })

  /** An answer whose changes are not written yet. */
  const look = Effect.fnUntraced(function* (
    session: Session,
    body: SlidingSyncBody,
    connection: SlidingConnection,
    since: StreamPosition | undefined,
    messagesSeen: StreamPosition | undefined
  ) {
    const { userId } = session
    const userRooms = yield* lists.of(userId)
    // Read before the account data that it covers: a change meanwhile gives another version.
    const { version } = userRooms
    // A position of another node may be ahead of what this one has read.
    const upTo = laterPosition(yield* lists.currentPosition, since ?? beginning)
    const direct = yield* wantedRooms.direct(userId)
    const planned = planOf({ userId, body, connection, since, upTo, userRooms, version, direct })
    const { changes, counts, late, live, shown } = yield* planned
    const answers = yield* rooms.read(session, since, upTo, shown, direct)
    const extra = yield* extensions.read(body.extensions ?? {}, { userId, since, upTo, late, live, answers })
    const encryption = yield* devices.read(session, body.extensions ?? {}, messagesSeen, since, upTo)
    return {
      upTo,
      counts,
      answers,
      extra: { ...extra, ...encryption.answer },
      changes,
      isEmpty: answers.size === 0 && isNothing(extra) && !encryption.isNews
    }
  })

  const isNothing = (object: object) => Object.keys(object).length === 0

  type Look = Effect.Success<ReturnType<typeof look>>

  /** Writes what an answer changes of its connection, and returns the answer. */
  const complete = Effect.fnUntraced(function* (
    key: ConnectionKey,
    former: SlidingConnection,
    { answers, changes, counts, extra, upTo }: Look,
    { txn_id }: SlidingSyncBody
  ): Effect.fn.Return<SlidingAnswer, MatrixError> {
    const from = former === none ? yield* connections.open(key) : former
    const written = yield* connections.write(key, from, changes)
    if (Option.isNone(written)) return yield* unknownPos
    const { connection, version } = written.value
    return {
      ...(txn_id == null ? {} : { txn_id }),
      pos: formatPos({ connection, version, token: { position: upTo, epoch: log.epoch() } }),
      lists: counts,
      rooms: Object.fromEntries(Array.from(answers.values(), ({ answer, roomId }) => [roomId, answer])),
      extensions: extra
    }
  })

  const sync = Effect.fn("SlidingSync.sync")(function* (
    session: Session,
    { body, pos, timeout }: SlidingSyncRequest
  ): Effect.fn.Return<SlidingAnswer, MatrixError> {
    yield* checkRequest(body)
    const key: ConnectionKey = { userId: session.userId, deviceId: session.deviceId, name: body.conn_id ?? "" }
    const position = pos === undefined ? undefined : yield* positionOf(pos)
    const found =
      position === undefined ? Option.some(none) : yield* connections.find(key, position.connection, position.version)
    if (Option.isNone(found)) return yield* unknownPos
    const connection = found.value
    const since = position?.token.position
    const messagesSeen = yield* devices.acknowledged(session, body.extensions ?? {})
    const once = withAllowance(look(session, body, connection, since, messagesSeen))
    // What another node has acknowledged is part of an answer that does not wait. Where another node has given out the position, its
    // rooms would look left without what that one has read.
    const isAhead = since !== undefined && comparePositions(since, log.position()) > 0
    if (since === undefined || timeout === 0 || isAhead) yield* log.caughtUp
    if (since === undefined || timeout === 0) return yield* complete(key, connection, yield* once, body)
    const deadline = (yield* monotonicMillis) + Math.min(timeout, maxTimeout)
    return yield* feeds.reading(session.userId, (feed) => {
      const wait: Effect.Effect<SlidingAnswer, MatrixError> = Effect.suspend(() => {
        const { wakes } = feed
        return Effect.flatMap(once, (seen) =>
          seen.isEmpty
            ? Effect.flatMap(feeds.changed(session, feed, wakes, deadline), (woken) =>
                woken ? wait : complete(key, connection, seen, body)
              )
            : complete(key, connection, seen, body)
        )
      })
      return Effect.tap(wait, ({ rooms }) => afterSends(Object.values(rooms).map(({ timeline = [] }) => timeline)))
    })
  })

  return SlidingSync.of({ sync })
})

/** Simplified sliding sync (MSC4186). */
export class SlidingSync extends Context.Service<
  SlidingSync,
  {
    /**
     * The updates since `pos` of the rooms that the request asks for; without `pos`, all of them. Waits up to `timeout` for
     * an update. Errors: M_UNKNOWN_POS for a position that is not kept any more, M_INVALID_PARAM for too large a request.
     */
    readonly sync: (session: Session, request: SlidingSyncRequest) => Effect.Effect<SlidingAnswer, MatrixError>
  }
>()("greenroom/actors/SlidingSync") {
  static readonly layer = Layer.effect(SlidingSync, make)
}
