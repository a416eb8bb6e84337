/**
 * The address book in today's client API.
 */
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { HttpApiBuilder } from "effect/http-api"
import { makeContactRequests } from "../client-api/ContactRequests.ts"
import { withServices } from "../client-api/EndpointServices.ts"

export const contactsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.contacts", (handlers) =>
  withServices(function* () {
    const requests = yield* makeContactRequests
    return handlers
      .handle("list", requests.list)
      .handle("add", requests.add)
      .handle("removeAll", requests.removeAll)
      .handle("import", requests.importFile)
      .handle("export", requests.exportFile)
      .handle("lookup", requests.lookup)
      .handle("get", requests.get)
      .handle("replace", requests.replace)
      .handle("remove", requests.remove)
  })
)
