/**
 * What an answer of sliding sync contains: the rooms that it shows, since when the client has them, and what it changes of the
 * connection.
 *
 * Source: MSC4186.
 */
import type { SlidingSyncBody } from "@greenroom/protocol/client-server/SlidingSyncApi"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { InvalidParam } from "@greenroom/protocol/MatrixError"
import type { SentRoom, SlidingConnection } from "@greenroom/store/SlidingConnectionStore"
import { beginning, comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { RoomLists } from "./RoomLists.ts"
import type { UserRoom, UserRooms } from "./RoomOrders.ts"
import type { ConnectionChanges } from "./SlidingConnections.ts"
import type { LateRoom } from "./SlidingExtensions.ts"
import type { SlidingLists, Wanted, WantedRoom } from "./SlidingLists.ts"
import { isExpanded, type ShownRoom } from "./SlidingReading.ts"
import type { RoomConfig } from "./SlidingRequest.ts"

/** How many rooms one answer sends that the client does not have; the others come with the next. */
const maxNewRooms = 200

/** The setting of a room whose client knows that the user has left it. */
const sentAsLeft = -1

/** A request on a connection, and the rooms of its user. */
interface Subject {
  readonly userId: UserId
  readonly body: SlidingSyncBody
  readonly connection: SlidingConnection
  readonly since: StreamPosition | undefined
  readonly upTo: StreamPosition
  readonly userRooms: UserRooms
  /** That of `userRooms` when they were read. */
  readonly version: number
  /** The direct chats of the user. */
  readonly direct: ReadonlySet<string>
}

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

export const makeSlidingPlans = (lists: RoomLists, wantedRooms: SlidingLists) => {
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

  /** Of all wanted rooms. */
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

  const steadyPlan = ({ body, connection, since, userRooms }: Subject): Plan | undefined => {
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

  const wholePlan = Effect.fnUntraced(function* ({
    body,
    connection,
    direct,
    since,
    upTo,
    userId,
    userRooms,
    version
  }: Subject) {
    const { rooms } = userRooms
    const wanted = yield* wantedRooms.wanted(userId, userRooms, body, direct)
    const planned = plan(connection, since, upTo, rooms, wanted)
    if (wanted.isSteady && planned.changes.rooms.size === 0 && since !== undefined) {
      steadyPlans.set(connection, { asked: askedOf(body), rooms, version, wanted, live: planned.live })
    }
    return planned
  })

  return (subject: Subject): Effect.Effect<Plan, InvalidParam> =>
    Effect.suspend(() => {
      const steady = steadyPlan(subject)
      return steady === undefined ? wholePlan(subject) : Effect.succeed(steady)
    })
}
