/** Two gateways that know each other's addresses, over TLS on loopback, each with its own database. */
import { type AddressInfo, createServer } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { type Server, startServer } from "./Server.ts"

export interface TwoServers extends AsyncDisposable {
  readonly here: Server
  readonly there: Server
}

export const hereName = "here.test"
export const thereName = "there.test"

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

export const startTwoServers = async (): Promise<TwoServers> => {
  const [herePort, therePort] = [await freePort(), await freePort()]
  const environment = {
    GREENROOM_FEDERATION_VERIFY: "false",
    GREENROOM_FEDERATION_SERVERS: `${hereName}=127.0.0.1:${herePort},${thereName}=127.0.0.1:${therePort}`
  }
  const nodeOptions = ["--import", new URL("./LoopDelay.ts", import.meta.url).href]
  const start = (serverName: string, federationPort: number) =>
    startServer({ serverName, federationPort, environment, nodeOptions })
  const here = await start(hereName, herePort)
  const there = await start(thereName, therePort)
  return {
    here,
    there,
    [Symbol.asyncDispose]: async () => {
      await here[Symbol.asyncDispose]()
      await there[Symbol.asyncDispose]()
    }
  }
}

const heldUp = /event loop held up ([0-9.]+) ms, by a slice ([0-9.]+) ms/g

/** For how long something held up an event loop at most, in ms. */
export interface HoldUp {
  /** By all that it does at once. */
  readonly whole: number
  /** By signing, verifying and resolving. */
  readonly slice: number
}

export const longer = (a: HoldUp, b: HoldUp): HoldUp => ({
  whole: Math.max(a.whole, b.whole),
  slice: Math.max(a.slice, b.slice)
})

/** For how long the event loop of the server was held up at most since this was asked last. */
export const longestHoldUp = async (server: Server): Promise<HoldUp> => {
  const told = () => [...server.output().matchAll(heldUp)].map(([, whole, slice]) => [Number(whole), Number(slice)])
  const before = told().length
  process.kill(server.pid, "SIGUSR2")
  while (told().length === before) await sleep(10)
  const [whole = 0, slice = 0] = told().at(-1)!
  return { whole, slice }
}
