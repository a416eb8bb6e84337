/**
 * The services of the tests about people: the stores on a fresh database, a runner, and the actors and services of
 * presence. Rooms are rows here: who is joined where is all that people ask of them.
 */
import { formatUserId, type RoomId, type ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { EventLog } from "@greenroom/store/EventLog"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EphemeralStream } from "../../src/presence/EphemeralStream.ts"
import * as Presence from "../../src/presence/Presence.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { RemotePresenceLookup } from "../../src/presence/RemotePresenceLookup.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import * as LocalRunner from "../../src/runtime/LocalRunner.ts"
import { Nodes } from "../../src/runtime/Nodes.ts"
import type { Session } from "../../src/runtime/Session.ts"

export const serverName = "example.org" as ServerName

/** The stores of people, on a fresh database. */
export const stores = Layer.mergeAll(
  AccountStore.layer,
  PresenceListStore.layer,
  PresenceStore.layer,
  ProfileStore.layer
).pipe(Layer.provideMerge(TestDatabase.layer))

/** Messages are encoded as if they went to another process. */
export const runner = Layer.mergeAll(
  LocalRunner.layerEncoding(),
  Layer.succeed(HomeServerConfig, { serverName, dataDir: "" })
)

/** Presence and typing, with the log that carries them, and the rooms that write to it. */
export const ephemeralStream = EphemeralStream.layer.pipe(
  Layer.provideMerge(Layer.merge(RoomStore.layer, ShortLivedStore.layer)),
  Layer.provideMerge(EventLog.layer)
)

/** The same for a server of one process. */
export const streamOfOneNode = Layer.provide(ephemeralStream, Layer.sync(Nodes, Nodes.alone))

/** Presence with a memory of its own, for a process that is restarted within a test. */
export const presence = Presences.layer.pipe(
  Layer.provideMerge(Presence.layer()),
  Layer.provideMerge(RemotePresenceLookup.layerNone),
  Layer.provideMerge(ephemeralStream),
  Layer.provideMerge(runner)
)

/** A new user, logged in on one device. */
export const signUp = Effect.fnUntraced(function* (name: string) {
  const accounts = yield* AccountStore
  const userId = formatUserId(name, serverName)
  yield* Effect.orDie(accounts.create(userId))
  return onDevice(userId, "phone")
})

export const onDevice = (userId: UserId, deviceId: string): Session => ({ userId, tokenId: 0, deviceId })

/** A room with these members, without events. */
export const roomOf = Effect.fnUntraced(function* (roomId: string, members: ReadonlyArray<UserId>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO rooms (room_id, version, created_at) VALUES (${roomId}, 'test', 0) ON CONFLICT (room_id) DO NOTHING`
  for (const member of members) {
    yield* sql`
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      SELECT room_nid, ${member}, 'join', ${member}, 0 FROM rooms WHERE room_id = ${roomId}`
  }
  return roomId as RoomId
})
