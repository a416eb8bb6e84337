/**
 * The address book in the client API of 2014.
 */
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { HttpApiBuilder } from "effect/http-api"
import { makeContactRequests } from "./ContactRequests.ts"
import { withServices } from "./EndpointServices.ts"

export const contactsHandlers = HttpApiBuilder.group(ClientApi, "contacts", (handlers) =>
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
