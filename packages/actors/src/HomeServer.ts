/**
 * A whole home server without HTTP, to embed in another Effect program:
 *
 *     const program = Effect.gen(function* () {
 *       const accounts = yield* Accounts
 *       const rooms = yield* Rooms
 *       ...
 *     })
 *     program.pipe(Effect.provide(HomeServer.layer({ serverName: ServerName.make("example.org"), dataDir: "./data" })))
 *
 * The services that it provides are those that the gateways use.
 */
import { NodeCrypto } from "@effect/platform-node"
import { AccountStore } from "@greenroom/store/AccountStore"
import * as Database from "@greenroom/store/Database"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { StateStore } from "@greenroom/store/StateStore"
import { Layer } from "effect"
import { Accounts } from "./Accounts.ts"
import { EphemeralStream } from "./EphemeralStream.ts"
import { Events } from "./Events.ts"
import * as FederationLayer from "./federation/FederationLayer.ts"
import { FederationRooms } from "./federation/FederationRooms.ts"
import { RemoteRooms } from "./federation/RemoteRooms.ts"
import { HomeServerConfig, type HomeServerOptions } from "./HomeServerConfig.ts"
import * as LocalRunner from "./LocalRunner.ts"
import { OutgoingEdus } from "./OutgoingEdus.ts"
import { Passwords } from "./Passwords.ts"
import * as Presence from "./Presence.ts"
import { Presences } from "./Presences.ts"
import * as Room from "./Room.ts"
import { Rooms } from "./Rooms.ts"
import * as User from "./User.ts"
import { Users } from "./Users.ts"
import { Voip } from "./Voip.ts"

/** The tables, each with its one owner. */
const stores = (options: HomeServerOptions) =>
  Layer.mergeAll(
    AccountStore.layer,
    DirectoryStore.layer,
    EventLog.layer,
    EventStore.layer,
    PresenceListStore.layer,
    PresenceStore.layer,
    ProfileStore.layer,
    RoomStore.layer,
    ServerSettings.layer(options.serverName),
    SigningKeys.layer(options.serverName),
    StateStore.layer
  )

/** The actors, with what they need of other servers. */
const actors = Layer.mergeAll(Room.layer, Presence.layer(), User.layer, FederationRooms.layer).pipe(
  Layer.provideMerge(RemoteRooms.layer)
)

/** The services over the actors, which in turn call them. */
const services = Layer.mergeAll(Events.layer, Accounts.layer).pipe(
  Layer.provideMerge(Users.layer),
  Layer.provideMerge(Rooms.layer),
  Layer.provideMerge(Presences.layer),
  Layer.provideMerge(Layer.mergeAll(Voip.layer, Passwords.layer, OutgoingEdus.layerNowhere))
)

/** A home server on a database that is there already: needs its `SqlClient`. */
export const layerOnDatabase = (options: HomeServerOptions) =>
  actors.pipe(
    Layer.provideMerge(services),
    Layer.provideMerge(FederationLayer.layer(options.federation)),
    Layer.provideMerge(EphemeralStream.layer),
    Layer.provideMerge(LocalRunner.layer()),
    Layer.provideMerge(stores(options)),
    Layer.provideMerge(Layer.succeed(HomeServerConfig, options)),
    Layer.provideMerge(NodeCrypto.layer)
  )

/** A home server with its database: the embedded PostgreSQL in `dataDir`, or the one at `databaseUrl`. */
export const layer = (options: HomeServerOptions) =>
  layerOnDatabase(options).pipe(Layer.provideMerge(Database.layer(options)))
