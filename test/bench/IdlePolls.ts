/**
 * The memory of an idle connected user: the resident memory of 5,000 long polls of as many
 * users. The gateway is started anew for it, so that nothing that was used before is filled again.
 */
import { atMost, type Benchmark, count } from "./Benchmark.ts"
import { runLoad, startBareServer } from "./LoadProcess.ts"
import type { IdlePollsInput, Memory } from "./load/idlePolls.ts"
import type { RegisterInput } from "./load/register.ts"
import { removeDirectory, startServer, temporaryDirectory } from "./Server.ts"

const registerOn = async (dataDir: string, users: number): Promise<ReadonlyArray<string>> => {
  await using server = await startServer({ dataDir })
  return await runLoad<RegisterInput, ReadonlyArray<string>>("register", { url: server.url, users })
}

const measure = async (
  { pid, url }: { readonly pid: number; readonly url: string },
  tokens: ReadonlyArray<string>,
  seconds: number,
  bySync = false
) => {
  const { after, before } = await runLoad<IdlePollsInput, Memory>("idlePolls", { url, pid, tokens, seconds, bySync })
  return { each: (after - before) / tokens.length, before, after }
}

/** Measures a server that is started for it. */
const measureOn = async (dataDir: string, tokens: ReadonlyArray<string>, seconds: number, bySync: boolean) => {
  await using server = await startServer({ dataDir })
  return await measure(server, tokens, seconds, bySync)
}

const megabytes = (kilobytes: number) => `${count(kilobytes / 1024)} MB`

export const idlePolls: Benchmark = {
  name: "idle-polls",
  measures: "resident memory of a waiting long poll, each of another user; baseline: node:http alone",
  run: async ({ quick }) => {
    const users = quick ? 100 : 5_000
    // V8 gives memory that it does not use any more back after some ten seconds.
    const seconds = quick ? 1 : 12
    const dataDir = await temporaryDirectory()
    try {
      const tokens = await registerOn(dataDir, users)
      using bare = await startBareServer()
      const ours = await measureOn(dataDir, tokens, seconds, false)
      const syncs = await measureOn(dataDir, tokens, seconds, true)
      const theirs = await measure(bare, tokens, seconds)
      return [
        {
          what: `each of ${count(users)} idle long polls`,
          value: `${ours.each.toFixed(1)} KB`,
          baseline: `${theirs.each.toFixed(1)} KB`,
          target: atMost(ours.each, 40, " KB")
        },
        { what: "  the process with none", value: megabytes(ours.before), baseline: megabytes(theirs.before) },
        { what: "  the process with all", value: megabytes(ours.after), baseline: megabytes(theirs.after) },
        {
          what: `each of ${count(users)} idle /syncs`,
          value: `${syncs.each.toFixed(1)} KB`,
          baseline: `${ours.each.toFixed(1)} KB, long polls`,
          target: atMost(syncs.each, 40, " KB")
        }
      ]
    } finally {
      await removeDirectory(dataDir)
    }
  }
}
