/** Opens long polls, each on a connection of its own, and says how much memory the server has before and after. */
import { serveLoad } from "../LoadProcess.ts"
import { openPolls, settledMemory, warmUp } from "./Polls.ts"

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

serveLoad(async ({ bySync = false, pid, seconds, tokens, url }: IdlePollsInput): Promise<Memory> => {
  await warmUp(url, tokens, bySync)
  const before = await settledMemory(pid, seconds)
  await openPolls(url, tokens, bySync)
  return { before, after: await settledMemory(pid, seconds) }
})
