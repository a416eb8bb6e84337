/**
 * The resident memory of the gateway: at rest, after rooms were filled with messages, and under steady load with long
 * polls. That of PostgreSQL, which is a process of its own, does not count. Baseline: node:http alone, under the same load.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { atMost, type Benchmark, count, type Figure } from "./Benchmark.ts"
import { runLoad, startBareServer } from "./LoadProcess.ts"
import type { FilledRoomsInput } from "./load/filledRooms.ts"
import type { Gatherings, GatheringsInput } from "./load/gatherings.ts"
import type { ListenersInput } from "./load/listeners.ts"
import type { PacedSendsInput } from "./load/pacedSends.ts"
import type { Percentiles } from "./Percentiles.ts"
import { residentMemory, startServer } from "./Server.ts"

interface Target {
  readonly url: string
  readonly pid: number
}

interface Scale {
  readonly rooms: number
  readonly messages: number
  /** How long the servers rest before they are measured, in seconds. */
  readonly rest: number
  /** How long they are under load, in seconds. */
  readonly load: number
}

const full: Scale = { rooms: 200, messages: 100, rest: 60, load: 180 }
const quick: Scale = { rooms: 5, messages: 10, rest: 1, load: 3 }

/** 400 messages a second: in each of 20 rooms, one every 50 ms. Five members of each room wait for them. */
const talkers = 20
const interval = 50
const listenersOfRoom = 5

/** In MB. */
const memoryOf = ({ pid }: Target): number => residentMemory(pid) / 1024

const megabytes = (value: number): string => `${count(value)} MB`

/** The largest of what is measured every second, for so many seconds. */
const highest = async (target: Target, seconds: number): Promise<number> => {
  let most = 0
  for (let second = 0; second < seconds; second++) {
    await sleep(1_000)
    most = Math.max(most, memoryOf(target))
  }
  return most
}

/** Both servers at rest, then after `rooms` of `messages`; the bare one keeps nothing of them. */
const measureRooms = async ({ messages, rest, rooms }: Scale): Promise<ReadonlyArray<Figure>> => {
  await using server = await startServer()
  using bare = await startBareServer()
  await sleep(rest * 1_000)
  const [ours, theirs] = [memoryOf(server), memoryOf(bare)]
  await runLoad<FilledRoomsInput, number>("filledRooms", { url: server.url, rooms, messages })
  await sleep(rest * 1_000)
  const after = memoryOf(server)
  return [
    { what: "at rest", value: megabytes(ours), baseline: megabytes(theirs), target: atMost(ours, 150, " MB") },
    {
      what: `after ${rooms} rooms of ${messages} messages`,
      value: megabytes(after),
      baseline: megabytes(theirs),
      target: atMost(after, 200, " MB")
    }
  ]
}

interface UnderLoad {
  readonly during: number
  readonly after: number
  readonly times: Percentiles
}

const talk = async (target: Target, { load, rest }: Scale, people: Gatherings): Promise<UnderLoad> => {
  const { members, rooms, senders: tokens } = people
  const sends = { url: target.url, tokens, rooms, seconds: load, interval, run: "talk" }
  const [during, times] = await Promise.all([
    highest(target, load),
    runLoad<PacedSendsInput, Percentiles>("pacedSends", sends),
    runLoad<ListenersInput, number>("listeners", { url: target.url, members, seconds: load + 1 })
  ])
  await sleep(rest * 1_000)
  return { during, times, after: memoryOf(target) }
}

const measureLoad = async (scale: Scale): Promise<ReadonlyArray<Figure>> => {
  await using server = await startServer()
  using bare = await startBareServer()
  const people = await runLoad<GatheringsInput, Gatherings>("gatherings", {
    url: server.url,
    rooms: talkers,
    membersOfRoom: listenersOfRoom
  })
  const ours = await talk(server, scale, people)
  const theirs = await talk(bare, scale, people)
  const each = `${count((talkers * 1_000) / interval)} events/s, ${talkers * listenersOfRoom} long polls`
  return [
    {
      what: `${each}: at most`,
      value: megabytes(ours.during),
      baseline: megabytes(theirs.during),
      target: atMost(ours.during, 300, " MB")
    },
    { what: "  after a rest", value: megabytes(ours.after), baseline: megabytes(theirs.after) },
    {
      what: "  until the answer, p99",
      value: `${ours.times.p99.toFixed(1)} ms`,
      baseline: `${theirs.times.p99.toFixed(1)} ms`
    }
  ]
}

export const memory: Benchmark = {
  name: "memory",
  measures: "resident memory at rest, after rooms were filled, and under load; baseline: node:http alone",
  run: async (options) => {
    const scale = options.quick ? quick : full
    return [...(await measureRooms(scale)), ...(await measureLoad(scale))]
  }
}
