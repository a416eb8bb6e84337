/**
 * The devices of users of other servers: takes their updates, and has them asked for by the `RemoteDevices` actor.
 *
 * A list that misses an update stays stale in the table until its server has answered, whatever happens to this process;
 * servers with stale lists are asked again (`DeviceResyncs`), with a back-off for each server (`Destinations`) and for each list.
 *
 * Source: "Device Management" of the server-server specification.
 */
import type { KeyUpdateEdu } from "@greenroom/protocol/federation/Edu"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { Clock, Context, Effect, Layer } from "effect"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { DeviceResyncs } from "./DeviceResyncs.ts"
import { RemoteDevices } from "./RemoteDevicesProtocol.ts"
import { applyUpdates } from "./RemoteUserKeys.ts"

/** How often the lists of users that share no room any more are removed. */
const sweepInterval = "10 minutes"

const make = Effect.gen(function* () {
  const store = yield* RemoteDeviceListStore
  const resyncs = yield* DeviceResyncs
  const actor = yield* RemoteDevices.client

  const receive = Effect.fn("RemoteDeviceLists.receive")(function* (
    origin: ServerName,
    edus: ReadonlyArray<KeyUpdateEdu>
  ) {
    let isStale = false
    for (const [userId, ofUser] of Map.groupBy(edus, ({ content }) => content.user_id)) {
      if (serverNameOf(userId) !== origin) continue
      const list = yield* store.change(userId, applyUpdates(userId, ofUser))
      isStale ||= list?.isStale === true
    }
    if (isStale) yield* resyncs.plan(origin, yield* Clock.currentTimeMillis)
  })

  yield* periodicallyOnce("Forgetting devices of other servers", sweepInterval, store.sweep)

  const fetch = (server: ServerName, userIds: ReadonlyArray<UserId>, isUrgent: boolean) =>
    Effect.map(actor(server).Fetch({ userIds, isUrgent }), (missing): ReadonlySet<UserId> => new Set(missing))

  return RemoteDeviceLists.of({
    receive,
    fetch: (server, userIds, isUrgent) =>
      Effect.catchCause(fetch(server, userIds, isUrgent), (cause) =>
        Effect.as(Effect.logWarning(`The devices of ${server} could not be fetched`, cause), new Set(userIds))
      )
  })
})

/** Updates of the devices of users of other servers. */
export class RemoteDeviceLists extends Context.Service<
  RemoteDeviceLists,
  {
    /** Takes EDUs of one transaction. Those about users of other servers, or of no shared room, change nothing. */
    readonly receive: (origin: ServerName, edus: ReadonlyArray<KeyUpdateEdu>) => Effect.Effect<void>
    /**
     * Asks a server for the devices of users who share a room with one of ours, and stores them. Returns the users whose devices it did not
     * give. `isUrgent` asks even a server that could not be reached lately.
     */
    readonly fetch: (
      server: ServerName,
      userIds: ReadonlyArray<UserId>,
      isUrgent: boolean
    ) => Effect.Effect<ReadonlySet<UserId>>
  }
>()("greenroom/actors/RemoteDeviceLists") {
  static readonly layer = Layer.effect(RemoteDeviceLists, make)
}
