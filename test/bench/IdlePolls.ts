/**
 * The memory of an idle connected user: the resident memory, and the heap of JavaScript, that each of 5,000 long polls of as many
 * users adds. Each round starts a new gateway, so that no memory of earlier rounds is used again. All garbage is collected before a
 * measurement; otherwise a figure depends on when V8 last collected it.
 */
import { atMost, type Benchmark, count } from "./Benchmark.ts"
import { runLoad, startBareServer } from "./LoadProcess.ts"
import type { IdlePollsInput, Memories } from "./load/idlePolls.ts"
import type { Person } from "./load/People.ts"
import type { RegisterInput } from "./load/register.ts"
import { median } from "./Percentiles.ts"
import { removeDirectory, startServer, temporaryDirectory } from "./Server.ts"
import { inspectable, inspectorOf } from "./ServerHeap.ts"

const registerOn = async (dataDir: string, users: number): Promise<ReadonlyArray<string>> => {
  await using server = await startServer({ dataDir })
  const people = await runLoad<RegisterInput, ReadonlyArray<Person>>("register", { url: server.url, users })
  return people.map(({ token }) => token)
}

type Scale = Pick<IdlePollsInput, "tokens" | "seconds">

const measure = (input: IdlePollsInput) => runLoad<IdlePollsInput, Memories>("idlePolls", input)

/** Measures a server that is started for it. */
const measureOn = async (dataDir: string, scale: Scale, bySync: boolean) => {
  await using server = await startServer({ dataDir, nodeOptions: [inspectable] })
  const { pid, url } = server
  return await measure({ ...scale, url, pid, bySync, inspector: inspectorOf(server) })
}

const measureBare = async (scale: Scale) => {
  using bare = await startBareServer()
  return await measure({ ...scale, url: bare.url, pid: bare.pid })
}

/** What each poll adds, in KB: the median of the rounds, and all of them. */
const addedBy = (rounds: ReadonlyArray<Memories>, { tokens }: Scale, of: (memory: Memories["after"]) => number) => {
  const values = rounds.map(({ after, before }) => (of(after) - of(before)) / tokens.length)
  return { each: median(values), all: values.map((value) => value.toFixed(1)).join(", ") }
}

const resident = ({ resident }: Memories["after"]) => resident
const uncollected = ({ uncollected }: Memories["after"]) => uncollected
const heap = ({ heap }: Memories["after"]) => heap?.used ?? Number.NaN
const external = ({ heap }: Memories["after"]) => heap?.external ?? Number.NaN

const megabytes = (kilobytes: number) => `${count(kilobytes / 1024)} MB`

const figuresOf = (what: string, rounds: ReadonlyArray<Memories>, scale: Scale, bare: ReadonlyArray<Memories>) => {
  const memory = addedBy(rounds, scale, resident)
  const [last, lastBare] = [rounds.at(-1)!, bare.at(-1)!]
  return [
    {
      what: `each of ${count(scale.tokens.length)} idle ${what}`,
      value: `${memory.each.toFixed(1)} KB (${memory.all})`,
      baseline: `${addedBy(bare, scale, resident).each.toFixed(1)} KB`,
      target: atMost(memory.each, 40, " KB")
    },
    {
      what: "  of it live JavaScript, and what it holds outside",
      value: `${addedBy(rounds, scale, heap).each.toFixed(1)} + ${addedBy(rounds, scale, external).each.toFixed(1)} KB`,
      baseline: "-"
    },
    {
      what: "  before garbage is collected",
      value: `${addedBy(rounds, scale, uncollected).each.toFixed(1)} KB (${addedBy(rounds, scale, uncollected).all})`,
      baseline: "-"
    },
    {
      what: "  the process with none, with all",
      value: `${megabytes(last.before.resident)}, ${megabytes(last.after.resident)}`,
      baseline: `${megabytes(lastBare.before.resident)}, ${megabytes(lastBare.after.resident)}`
    }
  ]
}

export const idlePolls: Benchmark = {
  name: "idle-polls",
  measures: "memory of a waiting long poll, each of another user; baseline: node:http alone",
  run: async ({ quick }) => {
    const dataDir = await temporaryDirectory()
    try {
      const scale = { tokens: await registerOn(dataDir, quick ? 100 : 5_000), seconds: quick ? 1 : 4 }
      const bare = [await measureBare(scale)]
      const events: Array<Memories> = []
      const syncs: Array<Memories> = []
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        events.push(await measureOn(dataDir, scale, false))
        syncs.push(await measureOn(dataDir, scale, true))
      }
      return [...figuresOf("/events", events, scale, bare), ...figuresOf("/syncs", syncs, scale, bare)]
    } finally {
      await removeDirectory(dataDir)
    }
  }
}
