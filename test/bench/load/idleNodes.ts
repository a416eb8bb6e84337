/** Has clients wait at several servers at once, and measures the servers at rest: without the clients, and with them. */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import { processorTime } from "../Processes.ts"
import type { Interval } from "../Wires.ts"
import { openPolls, settledMemory, warmUp } from "./Polls.ts"

export interface IdleNodesInput {
  readonly servers: ReadonlyArray<{
    readonly url: string
    readonly pid: number
    /** One `/sync` each. */
    readonly tokens: ReadonlyArray<string>
  }>
  /** For how long the memory must not have changed before it counts. */
  readonly seconds: number
  /** For how long processor time is measured, in seconds. */
  readonly rest: number
}

/** Of a server: resident memory in KB, and processor time in ms for each second. */
export interface AtRest {
  readonly memory: number
  readonly processor: number
}

export interface IdleNodes {
  /** In the order of the servers. */
  readonly without: ReadonlyArray<AtRest>
  readonly waiting: ReadonlyArray<AtRest>
  /** The rest with clients. */
  readonly interval: Interval
}

serveLoad(async ({ rest, seconds, servers }: IdleNodesInput): Promise<IdleNodes> => {
  const measure = async () => {
    const memories = await Promise.all(servers.map(({ pid }) => settledMemory(pid, seconds)))
    const from = Date.now()
    const before = servers.map(({ pid }) => processorTime(pid))
    await sleep(rest * 1_000)
    const until = Date.now()
    const atRest = servers.map(({ pid }, index) => ({
      memory: memories[index]!,
      processor: (processorTime(pid) - before[index]!) / ((until - from) / 1_000)
    }))
    return { atRest, interval: { from, until } }
  }
  await Promise.all(servers.map(({ tokens, url }) => warmUp(url, tokens, true)))
  const without = await measure()
  await Promise.all(servers.map(({ tokens, url }) => openPolls(url, tokens, true)))
  const waiting = await measure()
  return { without: without.atRest, waiting: waiting.atRest, interval: waiting.interval }
})
