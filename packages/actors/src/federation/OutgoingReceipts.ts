/**
 * Tells the other servers of a room how far users of this one have read: one EDU for each receipt, the last of a user in a
 * room and thread taking the place of those that still wait (`PendingEdus`).
 *
 * Source: "Receipts" of the server-server specification.
 */
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Effect, Layer } from "effect"
import { RemoteReceipts } from "../room/RemoteReceipts.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Peers } from "./Peers.ts"

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const roomServers = yield* RoomServerStore
  const peers = yield* Peers

  return RemoteReceipts.of({
    send: Effect.fnUntraced(function* ({ eventId, roomId, threadId, ts, userId }) {
      const servers = (yield* roomServers.serversOf([roomId])).get(roomId) ?? []
      const data = { ts, ...(threadId === undefined ? {} : { thread_id: threadId }) }
      const content = { [roomId]: { "m.read": { [userId]: { data, event_ids: [eventId] } } } }
      for (const server of servers) {
        if (server !== serverName) yield* peers.queueEdus(server, [{ edu_type: "m.receipt", content }])
      }
    })
  })
})

export const layer = Layer.effect(RemoteReceipts, make)
