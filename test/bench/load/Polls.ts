/** Long polls that wait, each on a connection of its own. */
import { setTimeout as sleep } from "node:timers/promises"
import { residentMemory } from "../Server.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix, todayPrefix } from "./People.ts"

/** Polls that open at once, and the pause between in ms: 250 a second, as after a restart. */
const width = 50
const pause = 200

/** Waits until the memory has not changed for `seconds`. Returns it, in KB. */
export const settledMemory = async (pid: number, seconds: number): Promise<number> => {
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

/** Polls again after each answer: users receive their own presence when it changes. */
const wait = async (connection: HttpConnection, token: string, bySync: boolean) => {
  let from = bySync ? (await sync(connection, token, "timeout=0")).next_batch : "END"
  while (bySync) from = (await sync(connection, token, `since=${from}&timeout=600000`)).next_batch
  while (true) {
    const path = `${prefix}/events?from=${from}&timeout=600000`
    from = (await jsonOf<{ end: string }>(connection.request("GET", path, token))).end
  }
}

/** Opens polls, which wait until the program ends, by `/sync` or by the draft's `/events`. */
export const openPolls = async (url: string, tokens: ReadonlyArray<string>, bySync: boolean): Promise<void> => {
  const open = async (token: string) => {
    wait(await HttpConnection.open(url), token, bySync).catch((error: Error) => {
      throw error
    })
  }
  for (let index = 0; index < tokens.length; index += width) {
    await Promise.all(tokens.slice(index, index + width).map(open))
    await sleep(pause)
  }
}

/** Short polls of the same kind, so that loading and compiling are not measured. */
export const warmUp = async (url: string, tokens: ReadonlyArray<string>, bySync: boolean): Promise<void> => {
  const connection = await HttpConnection.open(url)
  for (const token of tokens.slice(0, 50)) {
    if (bySync) {
      const { next_batch } = await sync(connection, token, "timeout=0")
      await sync(connection, token, `since=${next_batch}&timeout=1`)
    } else await connection.request("GET", `${prefix}/events?from=END&timeout=1&size=100`, token)
  }
  connection.close()
}
