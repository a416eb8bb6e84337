/** The modules that `AdminServices` loads. */
import { RoomAdministrationStore } from "@greenroom/store/RoomAdministrationStore"
import { UserAdministrationStore } from "@greenroom/store/UserAdministrationStore"
import { UserExportStore } from "@greenroom/store/UserExportStore"
import { Layer } from "effect"
import { DestinationAdministration } from "./DestinationAdministration.ts"
import { MediaAdministration } from "./MediaAdministration.ts"
import { Reports } from "./Reports.ts"
import { RoomAdministration } from "./RoomAdministration.ts"
import { RoomRemovals } from "./RoomRemovals.ts"
import { ServerNotices } from "./ServerNotices.ts"
import { UserAdministration } from "./UserAdministration.ts"
import { UserExports } from "./UserExports.ts"
import { UserRedactions } from "./UserRedactions.ts"

export const layer = Layer.mergeAll(
  RoomAdministration.layer,
  UserAdministration.layer,
  MediaAdministration.layer,
  Reports.layer,
  UserExports.layer,
  UserRedactions.layer,
  ServerNotices.layer,
  DestinationAdministration.layer
).pipe(
  Layer.provideMerge(RoomRemovals.layer),
  Layer.provide(Layer.mergeAll(RoomAdministrationStore.layer, UserAdministrationStore.layer, UserExportStore.layer))
)
