/** Synapse from PyPI beside a Greenroom, for benchmarks that compare the two: optional, since it needs Python. */
import { Effect } from "effect"
import { freePorts } from "../support/FreePort.ts"
import * as Synapse from "../support/Synapse.ts"

/** The interpreter that has Synapse, or why there is none. */
export const installSynapse = (): Promise<string | { readonly reason: string }> =>
  Synapse.install().catch((error: Error) => ({ reason: error.message }))

/** Starts Synapse on loopback, with federation over TLS. Joins count when the whole state is there. */
export const startSynapse = async (python: string, directory: string): Promise<Synapse.Synapse> => {
  const [port, tlsPort] = (await Effect.runPromise(freePorts(2))) as [number, number]
  return Synapse.start({
    python,
    directory,
    serverName: `localhost:${tlsPort}`,
    port,
    tlsPort,
    settings: {
      experimental_features: { faster_joins: false },
      federation: { client_timeout: "180s", max_short_retries: 0, max_long_retries: 0 }
    }
  })
}
