/**
 * The PostgreSQL that comes with the gateway, with the same settings, without the gateway: what baselines are measured
 * on. It takes more connections, because a baseline has one for each of its workers.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { Effect, Exit, Redacted, Scope } from "effect"
import { temporaryDirectory } from "./Server.ts"

export interface Postgres extends AsyncDisposable {
  /** Its Unix socket. */
  readonly socketPath: string
  readonly url: string
  readonly pid: number
}

export const startPostgres = async (maxConnections: number): Promise<Postgres> => {
  const dataDir = await temporaryDirectory()
  const scope = await Effect.runPromise(Scope.make())
  const { url } = await Effect.runPromise(
    EmbeddedPostgres.make({ dataDir, settings: { max_connections: String(maxConnections) } }).pipe(
      Effect.provideService(Scope.Scope, scope)
    )
  )
  const query = new URL(Redacted.value(url).replace("postgresql://", "postgresql://localhost")).searchParams
  return {
    url: Redacted.value(url),
    pid: Number.parseInt(await fs.readFile(path.join(dataDir, "postgres", "postmaster.pid"), "utf8"), 10),
    socketPath: `${query.get("host")}/.s.PGSQL.${query.get("port")}`,
    [Symbol.asyncDispose]: async () => {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await fs.rm(dataDir, { recursive: true, force: true })
    }
  }
}
