/**
 * Moments from before the history that this server has of a room: other servers say which event is next to them, and the
 * history is fetched up to that one, within bounds.
 *
 * Source: `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event` of the client-server specification.
 */
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { beginning, theEnd } from "@greenroom/store/StreamToken"
import { Effect, Option } from "effect"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { RemoteDirectory } from "../RemoteDirectory.ts"
import { Room } from "../RoomProtocol.ts"

/** How many servers are asked, one after the other. */
const maxServers = 3
/** How much history is fetched: pages of events. */
const maxPages = 10
const pageSize = 100
/** How long all of it may take. */
const timeout = "20 seconds"

export const makeEarlierEvents = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const remote = yield* RemoteDirectory
  const room = yield* Room.client
  const events = yield* EventStore

  /** Our history ends before the room does, and after the moment. */
  const isBefore = Effect.fnUntraced(function* (roomNid: number, ts: number) {
    const [oldest] = yield* events.timelines([{ roomNid, after: beginning, upTo: theEnd }], "f", 1)
    return oldest !== undefined && oldest.event.type !== "m.room.create" && oldest.event.origin_server_ts >= ts
  })

  const askServers = Effect.fnUntraced(function* (roomId: RoomId, ts: number, direction: "f" | "b") {
    const servers = (yield* ask(room(roomId).Servers())).filter((server) => server !== serverName)
    for (const server of servers.slice(0, maxServers)) {
      const found = yield* Effect.option(remote.eventNear(server, roomId, ts, direction))
      if (Option.isSome(found)) return found.value
    }
    return undefined
  })

  const isHere = Effect.fnUntraced(function* (eventId: EventId) {
    const [stored] = yield* events.byIds([eventId])
    return stored?.status === EventStatus.timeline || stored?.status === EventStatus.backfilled
  })

  const fetchUpTo = Effect.fnUntraced(function* (roomId: RoomId, eventId: EventId) {
    for (let page = 0; page < maxPages && !(yield* isHere(eventId)); page++) {
      if (!(yield* ask(room(roomId).Backfill({ limit: pageSize })))) return
    }
  })

  /** Fetches the history around a moment, where this server does not have it. Events that no server returns are skipped. */
  return (roomId: RoomId, roomNid: number, ts: number, direction: "f" | "b"): Effect.Effect<void> =>
    Effect.gen(function* () {
      if (!(yield* isBefore(roomNid, ts))) return
      const found = yield* askServers(roomId, ts, direction)
      if (found !== undefined) yield* fetchUpTo(roomId, found)
    }).pipe(Effect.timeoutOption(timeout), Effect.ignore)
})
