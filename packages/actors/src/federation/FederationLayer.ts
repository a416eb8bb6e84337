/**
 * Everything with which this home server reaches others and knows them again, in one layer. It stands on the database, the
 * signing keys and the configuration; `Federation`, what others may ask, is not in it.
 */
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { RoomVoucherStore } from "@greenroom/store/RoomVoucherStore"
import { UnverifiedPduStore } from "@greenroom/store/UnverifiedPduStore"
import { Layer } from "effect"
import { Destinations } from "./Destinations.ts"
import { FederationCalls } from "./FederationCalls.ts"
import { FederationClient } from "./FederationClient.ts"
import { FederationConfig, type FederationOptions } from "./FederationConfig.ts"
import { FederationTransport } from "./FederationTransport.ts"
import { KeyNotary } from "./KeyNotary.ts"
import { PduVerification } from "./PduVerification.ts"
import { RemoteKeys } from "./RemoteKeys.ts"
import { RequestAuthentication } from "./RequestAuthentication.ts"
import { ServerDiscovery } from "./ServerDiscovery.ts"
import { ServerServerClient } from "./ServerServerClient.ts"

const stores = Layer.mergeAll(
  DestinationStore.layer,
  RemoteKeyStore.layer,
  RoomVoucherStore.layer,
  UnverifiedPduStore.layer
)

/** Needs `SqlClient`, `EventLog`, `SigningKeys` and `HomeServerConfig`. */
export const layer = (options: FederationOptions = {}) =>
  Layer.mergeAll(
    PduVerification.layer,
    RequestAuthentication.layer,
    FederationClient.layer,
    ServerServerClient.layer,
    KeyNotary.layer
  ).pipe(
    Layer.provideMerge(FederationCalls.layer),
    Layer.provideMerge(Layer.mergeAll(RemoteKeys.layer, Destinations.layer)),
    Layer.provideMerge(FederationTransport.layer),
    Layer.provideMerge(ServerDiscovery.layer),
    Layer.provideMerge(stores),
    Layer.provideMerge(Layer.succeed(FederationConfig, options))
  )
