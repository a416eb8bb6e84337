/** Synapse from PyPI beside a Greenroom, for benchmarks that compare the two: optional, since it needs Python. */
import * as path from "node:path"
import { freePorts } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import * as Synapse from "../support/Synapse.ts"
import type { Postgres } from "./Postgres.ts"

type Installed = Promise<string | { readonly reason: string }>

/** The interpreter that has Synapse, or why there is none. */
export const installSynapse = (): Installed => Synapse.install().catch((error: Error) => ({ reason: error.message }))

/** The same for a Synapse on PostgreSQL. */
export const installSynapseOnPostgres = (): Installed =>
  Synapse.installWithPostgres().catch((error: Error) => ({ reason: error.message }))

/** The settings by which Synapse uses a PostgreSQL of ours. */
const onPostgres = ({ socketPath }: Postgres) => ({
  database: {
    name: "psycopg2",
    allow_unsafe_locale: true,
    args: {
      user: "greenroom",
      dbname: "greenroom",
      host: path.dirname(socketPath),
      port: path.extname(socketPath).slice(1),
      cp_min: 5,
      cp_max: 10
    }
  }
})

/**
 * Starts Synapse on loopback, with federation over TLS. Joins count when the whole state is there. Its database is SQLite, or
 * that PostgreSQL.
 */
export const startSynapse = async (
  python: string,
  directory: string,
  postgres?: Postgres
): Promise<Synapse.Synapse> => {
  const [port, tlsPort] = (await Effect.runPromise(freePorts(2))) as [number, number]
  return Synapse.start({
    python,
    directory,
    serverName: `localhost:${tlsPort}`,
    port,
    tlsPort,
    settings: {
      ...(postgres === undefined ? {} : onPostgres(postgres)),
      experimental_features: { faster_joins: false },
      federation: { client_timeout: "180s", max_short_retries: 0, max_long_retries: 0 }
    }
  })
}
