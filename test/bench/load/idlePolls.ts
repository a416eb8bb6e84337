/** Opens long polls, each on a connection of its own, and says how much memory the server has before and after. */
import { serveLoad } from "../LoadProcess.ts"
import { collectGarbage, type Heap } from "../ServerHeap.ts"
import { openPolls, settledMemory, warmUp } from "./Polls.ts"

export interface IdlePollsInput {
  readonly url: string
  readonly pid: number
  /** One poll each. */
  readonly tokens: ReadonlyArray<string>
  /** For how long the memory must not have changed before it counts; four times as long after a collection. */
  readonly seconds: number
  /** Whether to wait by `/sync`. */
  readonly bySync?: boolean
  /** The address of the server's inspector. With it, garbage is collected before each measurement. */
  readonly inspector?: string
}

/** A program that has come to rest collects its garbage some seconds later (`HeapSize.ts`). */
const restsAfter = 4

/** In KB. */
export interface Memory {
  readonly resident: number
  /** The same before garbage was collected. */
  readonly uncollected: number
  /** Absent without an inspector. */
  readonly heap?: Heap
}

export interface Memories {
  readonly before: Memory
  readonly after: Memory
}

const memoryOf = async ({ inspector, pid, seconds }: IdlePollsInput): Promise<Memory> => {
  // Open polls are woken by the presence of their users some seconds later, and answered.
  const uncollected = await settledMemory(pid, seconds)
  if (inspector === undefined) return { resident: uncollected, uncollected }
  const heap = await collectGarbage(inspector)
  return { resident: await settledMemory(pid, seconds * restsAfter), uncollected, heap }
}

serveLoad(async (input: IdlePollsInput): Promise<Memories> => {
  const { bySync = false, tokens, url } = input
  await warmUp(url, tokens, bySync)
  const before = await memoryOf(input)
  await openPolls(url, tokens, bySync)
  return { before, after: await memoryOf(input) }
})
