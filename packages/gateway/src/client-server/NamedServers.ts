/**
 * The servers through which a client wants to reach a room: `via` of the query or, as older clients do, `server_name`.
 */
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { Context, Effect } from "effect"
import { HttpServerRequest } from "effect/http"

/** The most servers that a request may name. */
const maxVia = 50

/** The servers that the query names. Malformed names are skipped. */
export const namedServers: Effect.Effect<ReadonlyArray<ServerName>> = Effect.withFiber((fiber) => {
  const query = Context.getUnsafe(fiber.context, HttpServerRequest.ParsedSearchParams)
  const named = [query.via ?? [], query.server_name ?? []].flat()
  return Effect.succeed(
    [...new Set(named)].filter(isServerName).slice(0, maxVia) as ReadonlyArray<string> as ReadonlyArray<ServerName>
  )
})
