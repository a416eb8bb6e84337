/** Opens long polls, each on a connection of its own, and says how much memory the server has before and after. */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import { residentMemory } from "../Server.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix, todayPrefix } from "./People.ts"

export interface IdlePollsInput {
  readonly url: string
  readonly pid: number
  /** One poll each. */
  readonly tokens: ReadonlyArray<string>
  /** For how long the memory must not have changed before it counts. */
  readonly seconds: number
  /** Whether to wait by `/sync`. */
  readonly bySync?: boolean
}

/** In KB. */
export interface Memory {
  readonly before: number
  readonly after: number
}

/** Polls that open at once, and the pause between in ms: 250 a second, as after a restart. */
const width = 50
const pause = 200

/** Waits until the memory has not grown for a while: it is what the server keeps that counts. */
const settledMemory = async (pid: number, seconds: number): Promise<number> => {
  let last = residentMemory(pid)
  for (let quiet = 0; quiet < seconds; ) {
    await sleep(1_000)
    const now = residentMemory(pid)
    quiet = Math.abs(now - last) < 512 ? quiet + 1 : 0
    last = now
  }
  return last
}

const sync = (connection: HttpConnection, token: string, query: string) =>
  jsonOf<{ next_batch: string }>(connection.request("GET", `${todayPrefix}/sync?${query}`, token))

serveLoad(async ({ bySync = false, pid, seconds, tokens, url }: IdlePollsInput): Promise<Memory> => {
  const first = await HttpConnection.open(url)
  // What the first request loads and compiles is not part of what a waiting one costs: the same kind is asked for before.
  for (const token of tokens.slice(0, 50)) {
    if (bySync) {
      const { next_batch } = await sync(first, token, "timeout=0")
      await sync(first, token, `since=${next_batch}&timeout=1`)
    } else await first.request("GET", `${prefix}/events?from=END&timeout=1&size=100`, token)
  }
  const before = await settledMemory(pid, seconds)
  // A user is told of their own presence when it changes: their client asks again, as all do.
  const wait = async (connection: HttpConnection, token: string) => {
    let from = bySync ? (await sync(connection, token, "timeout=0")).next_batch : "END"
    while (bySync) from = (await sync(connection, token, `since=${from}&timeout=600000`)).next_batch
    while (true) {
      const path = `${prefix}/events?from=${from}&timeout=600000`
      from = (await jsonOf<{ end: string }>(connection.request("GET", path, token))).end
    }
  }
  const open = async (token: string) => {
    wait(await HttpConnection.open(url), token).catch((error: Error) => {
      throw error
    })
  }
  for (let index = 0; index < tokens.length; index += width) {
    await Promise.all(tokens.slice(index, index + width).map(open))
    await sleep(pause)
  }
  return { before, after: await settledMemory(pid, seconds) }
})
