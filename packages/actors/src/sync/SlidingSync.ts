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
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, UnknownPos } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import { withAllowance } from "@greenroom/store/LargeReads"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { ConnectionKey, SentRoom, SlidingConnection } from "@greenroom/store/SlidingConnectionStore"
import { beginning, comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { Feeds } from "./Feeds.ts"
import { afterSends } from "./internal/OwnEchoes.ts"
import { makeRoomLists } from "./internal/RoomLists.ts"
import type { UserRoom, UserRooms } from "./internal/RoomOrders.ts"
import {
  type ConnectionChanges,
  formatPos,
  makeSlidingConnections,
  parsePos,
  type SlidingPosition
} from "./internal/SlidingConnections.ts"
import { makeSlidingDevices } from "./internal/SlidingDevices.ts"
import { type LateRoom, makeSlidingExtensions } from "./internal/SlidingExtensions.ts"
import { makeSlidingLists, type Wanted, type WantedRoom } from "./internal/SlidingLists.ts"
import { isExpanded, type ShownRoom } from "./internal/SlidingReading.ts"
import { checkRequest, type RoomConfig } from "./internal/SlidingRequest.ts"
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

/** How many rooms one answer sends that the client does not have; the others come with the next. */
const maxNewRooms = 200

/** The setting of a room whose client knows that the user has left it. */
const sentAsLeft = -1

const none: SlidingConnection = { connection: 0, version: 0, configs: [], rooms: new Map() }

const unknownPos = new UnknownPos({ error: "pos: this position is not kept any more; begin anew without it" })

/** The subject of an answer, and the changes of its connection. */
interface Plan {
  readonly counts: Wanted["counts"]
  readonly shown: ReadonlyArray<ShownRoom>
  /** Rooms that the client does not have up to the answer before, and those that it has. */
  readonly late: ReadonlyArray<LateRoom>
  readonly live: ReadonlyMap<RoomId, WantedRoom>
  readonly changes: ConnectionChanges
}

/** The request of a connection whose client has everything that it asks for. */
interface SteadyPlan {
  readonly asked: string
  readonly rooms: UserRooms["rooms"]
  readonly version: number
  readonly wanted: Wanted
  readonly live: ReadonlyMap<RoomId, WantedRoom>
}

const askedOf = ({ lists, room_subscriptions }: SlidingSyncBody): string => JSON.stringify([lists, room_subscriptions])

/** The settings of a connection while an answer adds to them. */
const makeConfigs = (former: ReadonlyArray<string>) => {
  const texts = [...former]
  const indices = new Map(texts.map((text, index) => [text, index]))
  const indexOfText = (text: string): number => {
    const known = indices.get(text)
    if (known !== undefined) return known
    indices.set(text, texts.length)
    return texts.push(text) - 1
  }
  // The rooms of a list share one object.
  const seen = new Map<RoomConfig, number>()
  return {
    texts,
    indexOf: (config: RoomConfig): number => {
      const known = seen.get(config)
      if (known !== undefined) return known
      const index = indexOfText(JSON.stringify(config))
      seen.set(config, index)
      return index
    },
    at: (index: number): RoomConfig => JSON.parse(texts[index] ?? "null") as RoomConfig
  }
}

const make = Effect.gen(function* () {
  const log = yield* EventLog
  const feeds = yield* Feeds
  const lists = yield* makeRoomLists
  const connections = yield* makeSlidingConnections
  const wantedRooms = yield* makeSlidingLists(lists)
  const rooms = yield* makeSlidingRooms(yield* makeStrippedRooms)
  const extensions = yield* makeSlidingExtensions(lists, yield* makeSyncUserData)
  const devices = yield* makeSlidingDevices

  const positionOf = (pos: string): Effect.Effect<SlidingPosition, UnknownPos> =>
    Effect.gen(function* () {
      const parsed = parsePos(pos)
      if (Option.isNone(parsed) || (yield* log.isLost(parsed.value.token))) return yield* unknownPos
      return parsed.value
    })

  const hasNews = (room: UserRoom, known: StreamPosition): boolean => comparePositions(lists.standing(room), known) > 0

  /** Rooms that no list shows any more: if the user has left them, they are sent to the client once. */
  const planUnwanted = (
    connection: SlidingConnection,
    since: StreamPosition,
    upTo: StreamPosition,
    all: ReadonlyMap<number, UserRoom>,
    wanted: Wanted,
    configAt: (index: number) => RoomConfig
  ) => {
    const changes = new Map<number, SentRoom>()
    const left: Array<ShownRoom> = []
    for (const [roomNid, { config, upTo: sent }] of connection.rooms) {
      if (config === sentAsLeft || wanted.rooms.has(roomNid)) continue
      const room = all.get(roomNid)
      if (room?.listed) {
        if (sent === undefined) changes.set(roomNid, { config, upTo: since })
        continue
      }
      changes.set(roomNid, { config: sentAsLeft, upTo })
      const gone = room ?? {
        roomNid,
        roomId: "" as UserRoom["roomId"],
        membership: "leave",
        changedAt: upTo,
        listed: false
      }
      left.push({ room: gone, config: configAt(config), lists: [], known: sent ?? since, former: undefined })
    }
    return { changes, left }
  }

  const plan = (
    connection: SlidingConnection,
    since: StreamPosition | undefined,
    upTo: StreamPosition,
    all: ReadonlyMap<number, UserRoom>,
    wanted: Wanted
  ): Plan => {
    const late: Array<LateRoom> = []
    const live = new Map<RoomId, WantedRoom>()
    const configs = makeConfigs(connection.configs)
    const { changes, left } = planUnwanted(connection, since ?? beginning, upTo, all, wanted, configs.at)
    const shown: Array<ShownRoom> = [...left]
    let added = 0
    for (const [roomNid, wantedRoom] of wanted.rooms) {
      const { config, lists, room } = wantedRoom
      const sent = connection.rooms.get(roomNid)
      if (sent === undefined || sent.config === sentAsLeft) {
        if (added === maxNewRooms) continue
        added++
        shown.push({ room, config, lists, known: undefined, former: undefined })
        late.push({ ...wantedRoom, known: undefined })
        changes.set(roomNid, { config: configs.indexOf(config), upTo: undefined })
        continue
      }
      const known = sent.upTo ?? since
      const index = configs.indexOf(config)
      const former = index === sent.config ? undefined : configs.at(sent.config)
      if (known === undefined || hasNews(room, known) || isExpanded(former, config)) {
        shown.push({ room, config, lists, known, former })
      }
      if (known !== undefined && since !== undefined && comparePositions(known, since) >= 0) {
        live.set(room.roomId, wantedRoom)
      } else late.push({ ...wantedRoom, known })
      if (sent.upTo !== undefined || index !== sent.config) changes.set(roomNid, { config: index, upTo: undefined })
    }
    return { counts: wanted.counts, shown, late, live, changes: { configs: configs.texts, rooms: changes } }
  }

  /** The next answer of a connection whose client has all rooms: it is made from the rooms that had events since. */
  const steadyPlans = new WeakMap<SlidingConnection, SteadyPlan>()

  const steadyPlan = (
    connection: SlidingConnection,
    since: StreamPosition | undefined,
    userRooms: UserRooms,
    body: SlidingSyncBody
  ): Plan | undefined => {
    const steady = steadyPlans.get(connection)
    if (steady === undefined || since === undefined) return undefined
    if (steady.rooms !== userRooms.rooms || steady.version !== userRooms.version) return undefined
    const moved = steady.asked === askedOf(body) ? lists.moved(userRooms, since) : undefined
    if (moved === undefined) return undefined
    const shown = Array.from(moved).flatMap((roomNid): ReadonlyArray<ShownRoom> => {
      const wanted = steady.wanted.rooms.get(roomNid)
      if (wanted === undefined || !hasNews(wanted.room, since)) return []
      return [{ room: wanted.room, config: wanted.config, lists: wanted.lists, known: since, former: undefined }]
    })
    const changes = { configs: connection.configs, rooms: new Map<number, SentRoom>() }
    return { counts: steady.wanted.counts, shown, late: [], live: steady.live, changes }
  }

  const wholePlan = Effect.fnUntraced(function* (
    { userId }: Session,
    body: SlidingSyncBody,
    connection: SlidingConnection,
    since: StreamPosition | undefined,
    upTo: StreamPosition,
    userRooms: UserRooms,
    version: number,
    direct: ReadonlySet<string>
  ) {
    const { rooms } = userRooms
    const wanted = yield* wantedRooms.wanted(userId, userRooms, body, direct)
    const planned = plan(connection, since, upTo, rooms, wanted)
    if (wanted.isSteady && planned.changes.rooms.size === 0 && since !== undefined) {
      steadyPlans.set(connection, { asked: askedOf(body), rooms, version, wanted, live: planned.live })
    }
    return planned
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
    const { changes, counts, late, live, shown } =
      steadyPlan(connection, since, userRooms, body) ??
      (yield* wholePlan(session, body, connection, since, upTo, userRooms, version, direct))
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

  /** Writes what an answer changes of its connection, and gives the answer. */
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
