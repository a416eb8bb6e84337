/**
 * Is the server well? It is while its database answers and it is not going down.
 */
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { Health } from "@greenroom/protocol/api/SystemApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { SqlClient } from "effect/sql"
import { GatewayVersion } from "../GatewayVersion.ts"
import { Shutdown } from "../Shutdown.ts"
import { withServices } from "./EndpointServices.ts"

/** How long the database may take to answer. */
const patience = "2 seconds"

const ok = "ok"

export const systemHandlers = HttpApiBuilder.group(ClientApi, "system", (handlers) =>
  withServices(function* () {
    const sql = yield* SqlClient.SqlClient
    const shutdown = yield* Shutdown
    const version = yield* GatewayVersion

    const database = sql`SELECT 1`.pipe(
      Effect.timeout(patience),
      Effect.match({ onSuccess: () => ok, onFailure: () => "does not answer" })
    )

    return handlers.handle("health", () =>
      Effect.map(database, (database) => {
        const checks = { database, gateway: shutdown.isRequested() ? "going down" : ok }
        const healthy = Object.values(checks).every((check) => check === ok)
        const health: Health = { ok: healthy, version, checks }
        return healthy ? health : HttpServerResponse.jsonUnsafe(health, { status: 503 })
      })
    )
  })
)
