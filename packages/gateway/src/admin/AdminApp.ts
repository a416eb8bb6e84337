/**
 * What is served to administrators, as an application of its own that the gateway loads when it is first asked for.
 */
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import { ClientErrors } from "@greenroom/protocol/client-server/ClientErrors"
import { Layer } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import * as ChangesRunToEnd from "../ChangesRunToEnd.ts"
import { authenticationLayer } from "../client-api/Authentication.ts"
import { knownPaths } from "../KnownPaths.ts"
import { adminPage, adminPagePath } from "./AdminPage.ts"
import { destinationHandlers } from "./FederationHandlers.ts"
import { auditHandlers, banHandlers, exportHandlers, registrationHandlers } from "./GreenroomHandlers.ts"
import { mediaHandlers } from "./MediaHandlers.ts"
import { roomHandlers } from "./RoomHandlers.ts"
import { serverHandlers, tokenHandlers } from "./ServerHandlers.ts"
import { userHandlers } from "./UserHandlers.ts"

export const routes = Layer.mergeAll(
  HttpApiBuilder.layer(SynapseAdminApi),
  HttpApiBuilder.layer(GreenroomAdminApi),
  adminPage
).pipe(
  Layer.provide([auditHandlers, banHandlers, exportHandlers, registrationHandlers]),
  Layer.provide([userHandlers, roomHandlers, mediaHandlers, tokenHandlers, serverHandlers, destinationHandlers]),
  Layer.provide([authenticationLayer, WireErrors.layer, ClientErrors.layer]),
  Layer.provide(ChangesRunToEnd.layer)
)

/** The paths, to tell why a request reached none of them. */
export const known = knownPaths([SynapseAdminApi as never, GreenroomAdminApi as never], [adminPagePath])
