/**
 * The application for administrators, which the gateway loads on its first request.
 */
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import { Layer } from "effect"
import { HttpApiBuilder, OpenApi } from "effect/http-api"
import * as ChangesRunToEnd from "../ChangesRunToEnd.ts"
import { authenticationLayer } from "../client-api/Authentication.ts"
import { clientErrorsLayer } from "../client-server/ClientErrorsLayer.ts"
import { knownPaths } from "../KnownPaths.ts"
import { docsPage } from "../pages/DocsPage.ts"
import { adminPage, adminPagePath } from "./AdminPage.ts"
import { destinationHandlers } from "./FederationHandlers.ts"
import { auditHandlers, banHandlers, exportHandlers, registrationHandlers } from "./GreenroomHandlers.ts"
import { mediaHandlers } from "./MediaHandlers.ts"
import { reportHandlers } from "./ReportHandlers.ts"
import { roomHandlers } from "./RoomHandlers.ts"
import { serverHandlers, tokenHandlers } from "./ServerHandlers.ts"
import { userHandlers } from "./UserHandlers.ts"

const docsPath = "/docs/admin"
const synapseDocsPath = "/docs/admin/synapse"

/** The APIs under the names that their pages have. */
const greenroomDocs = GreenroomAdminApi.annotateMerge(
  OpenApi.annotations({
    title: "Greenroom: administration",
    description: `What is not in Synapse's API. That is at [${synapseDocsPath}](${synapseDocsPath}).`
  })
)
const synapseDocs = SynapseAdminApi.annotateMerge(
  OpenApi.annotations({ title: "Greenroom: Synapse's administration API" })
)

export const routes = Layer.mergeAll(
  HttpApiBuilder.layer(SynapseAdminApi),
  HttpApiBuilder.layer(GreenroomAdminApi),
  adminPage,
  docsPage(greenroomDocs, docsPath),
  docsPage(synapseDocs, synapseDocsPath)
).pipe(
  Layer.provide([auditHandlers, banHandlers, exportHandlers, registrationHandlers, reportHandlers]),
  Layer.provide([userHandlers, roomHandlers, mediaHandlers, tokenHandlers, serverHandlers, destinationHandlers]),
  Layer.provide([authenticationLayer, WireErrors.layer, clientErrorsLayer]),
  Layer.provide(ChangesRunToEnd.layer)
)

/** The paths, for the error of a request that reached no endpoint. */
export const known = knownPaths(
  [SynapseAdminApi as never, GreenroomAdminApi as never],
  [adminPagePath, docsPath, synapseDocsPath]
)
