/**
 * `/health`: the server is healthy while its database answers and is writable, it holds actors, and it is not shutting down.
 */
import { DatabaseHealth } from "@greenroom/actors/runtime/DatabaseHealth"
import { Nodes } from "@greenroom/actors/runtime/Nodes"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { Health } from "@greenroom/protocol/api/SystemApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { GatewayVersion } from "../GatewayVersion.ts"
import { Shutdown } from "../Shutdown.ts"
import { withServices } from "./EndpointServices.ts"

const ok = "ok"

export const systemHandlers = HttpApiBuilder.group(ClientApi, "system", (handlers) =>
  withServices(function* () {
    const shutdown = yield* Shutdown
    const version = yield* GatewayVersion
    const database = yield* DatabaseHealth
    const nodes = yield* Nodes

    return handlers.handle("health", () =>
      Effect.map(Effect.all([database.status, database.logLag]), ([database, lag]) => {
        const checks = {
          database,
          gateway: shutdown.isRequested() ? "shutting down" : nodes.isReady() ? ok : "holds no actors yet"
        }
        const healthy = Object.values(checks).every((check) => check === ok)
        const health: Health = { ok: healthy, version, checks, event_log_lag_ms: Math.round(lag) }
        return healthy ? health : HttpServerResponse.jsonUnsafe(health, { status: 503 })
      })
    )
  })
)
