/**
 * `/health`: the server is healthy while its database answers.
 */
import type { Health } from "@greenroom/protocol/api/SystemApi"
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { SqlClient } from "effect/sql"
import { version } from "../Version.ts"

/** How long the database may take to answer. */
const databaseTimeout = "2 seconds"

export const systemHandlers = HttpApiBuilder.group(IdentityApi, "system", (handlers) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const answers = sql`SELECT 1`.pipe(
      Effect.timeout(databaseTimeout),
      Effect.match({ onSuccess: () => true, onFailure: () => false })
    )
    return handlers.handle("health", () =>
      Effect.map(answers, (ok) => {
        const health: Health = { ok, version, checks: { database: ok ? "ok" : "does not answer" } }
        return ok ? health : HttpServerResponse.jsonUnsafe(health, { status: 503 })
      })
    )
  })
)
