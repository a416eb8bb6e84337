/** Two gateways that know each other's addresses, over TLS on loopback, each with its own database. */

import { setTimeout as sleep } from "node:timers/promises"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import { removeDirectory, type Server, startServer, temporaryDirectory } from "./Server.ts"

export interface TwoServers extends AsyncDisposable {
  readonly here: Server
  readonly there: Server
  /** Their server names. */
  readonly hereName: string
  readonly thereName: string
  /** Stops the second server, runs `meanwhile`, and starts the server on the same data. */
  readonly restartThere: (meanwhile: () => Promise<unknown>) => Promise<void>
}

export const hereName = "here.test"
export const thereName = "there.test"

export interface TwoServersOptions {
  /** Use `localhost` with a port as server names, so that other programs, such as Synapse, find the servers without settings. */
  readonly onLoopback?: boolean
}

export const startTwoServers = async ({ onLoopback = false }: TwoServersOptions = {}): Promise<TwoServers> => {
  const [herePort, therePort] = [await Effect.runPromise(freePort), await Effect.runPromise(freePort)]
  const names = onLoopback
    ? ([`localhost:${herePort}`, `localhost:${therePort}`] as const)
    : ([hereName, thereName] as const)
  const environment = {
    GREENROOM_FEDERATION_VERIFY: "false",
    ...(onLoopback
      ? {}
      : { GREENROOM_FEDERATION_SERVERS: `${hereName}=127.0.0.1:${herePort},${thereName}=127.0.0.1:${therePort}` })
  }
  const nodeOptions = ["--import", new URL("./LoopDelay.ts", import.meta.url).href]
  const start = (serverName: string, federationPort: number, dataDir?: string) =>
    startServer({
      serverName,
      federationPort,
      environment,
      nodeOptions,
      ...(dataDir === undefined ? {} : { dataDir })
    })
  const dataDir = await temporaryDirectory()
  const here = await start(names[0], herePort)
  let there = await start(names[1], therePort, dataDir)
  return {
    here,
    get there() {
      return there
    },
    hereName: names[0],
    thereName: names[1],
    restartThere: async (meanwhile) => {
      await there[Symbol.asyncDispose]()
      await meanwhile()
      there = await start(names[1], therePort, dataDir)
    },
    [Symbol.asyncDispose]: async () => {
      await here[Symbol.asyncDispose]()
      await there[Symbol.asyncDispose]()
      await removeDirectory(dataDir)
    }
  }
}

const heldUp = /event loop held up ([0-9.]+) ms, by a slice ([0-9.]+) ms/g

/** The longest stretches of an event loop, in ms. */
export interface HoldUp {
  /** By any work. */
  readonly whole: number
  /** By signing, verifying and resolving. */
  readonly slice: number
}

export const longer = (a: HoldUp, b: HoldUp): HoldUp => ({
  whole: Math.max(a.whole, b.whole),
  slice: Math.max(a.slice, b.slice)
})

/** The longest stretches of the event loop of the server since the last call. */
export const longestHoldUp = async (server: Server): Promise<HoldUp> => {
  const heldUpTimes = () =>
    [...server.output().matchAll(heldUp)].map(([, whole, slice]) => [Number(whole), Number(slice)])
  const before = heldUpTimes().length
  process.kill(server.pid, "SIGUSR2")
  while (heldUpTimes().length === before) await sleep(10)
  const [whole = 0, slice = 0] = heldUpTimes().at(-1)!
  return { whole, slice }
}
