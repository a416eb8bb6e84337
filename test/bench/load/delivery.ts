/**
 * Waits in a room by long polls and sockets and sends to it, one message after the other: how long from the sender's
 * request to the last of those who wait. Answers are searched for the message, not parsed.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { WebSocket } from "ws"
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { processorTime } from "../Processes.ts"
import type { Interval } from "../Wires.ts"
import type { Audience } from "./audience.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { prefix } from "./People.ts"

export interface DeliveryInput extends Audience {
  readonly url: string
  /** How many of the members wait by long poll; the others have a socket. */
  readonly polls: number
  readonly messages: number
  /** Makes the transaction IDs of this run its own. Default: all runs against a server have the same. */
  readonly run?: string
  /** Whether those without a socket wait by /sync instead. */
  readonly bySync?: boolean
  /** Other nodes, where members wait too, in turns. */
  readonly otherUrls?: ReadonlyArray<string>
  /** The processes whose processor time is measured. */
  readonly pids?: ReadonlyArray<number>
  /** From one message to the next, in ms (default 300): receivers poll again meanwhile. */
  readonly pause?: number
}

export interface Delivered {
  /** Until the sender is answered, until the first of those who wait has it, until the last has it. */
  readonly answered: Percentiles
  readonly first: Percentiles
  readonly last: Percentiles
  /** Processor time of all processes for a message, in ms, and when it was measured. */
  readonly processor: number
  readonly interval: Interval
}

/** After so many milliseconds a message counts as lost. */
const deliveryTimeout = 30_000

const endToken = /"end":"([^"]+)"/
const nextBatch = /"next_batch":"([^"]+)"/

serveLoad(
  async ({
    bySync = false,
    members,
    messages,
    otherUrls = [],
    pause = 300,
    pids = [],
    polls,
    room,
    run = "",
    sender,
    url
  }: DeliveryInput): Promise<Delivered> => {
    /** The awaited message, the members who have it, and the callback once all have it. */
    let awaited = Buffer.from("nothing yet")
    let reached = 0
    let firstAt = 0
    let done = () => {}
    const onBytes = (bytes: Buffer) => {
      if (!bytes.includes(awaited)) return
      if (++reached === 1) firstAt = performance.now()
      if (reached === members.length) done()
    }

    const urls = [url, ...otherUrls]
    let turns = 0
    const nextUrl = () => urls[turns++ % urls.length]!

    const poll = async (token: string) => {
      const connection = await HttpConnection.open(nextUrl())
      let from = "END"
      while (true) {
        const { body } = await connection.request("GET", `${prefix}/events?from=${from}&timeout=120000`, token)
        onBytes(body)
        from = endToken.exec(body.toString("latin1"))?.[1] ?? from
      }
    }
    /** Gives what goes on waiting, once the first answer is there. */
    const sync = async (token: string) => {
      const connection = await HttpConnection.open(nextUrl())
      const ask = (query: string) => connection.request("GET", `/_matrix/client/v3/sync?${query}`, token)
      let since = nextBatch.exec((await ask("timeout=0")).body.toString("latin1"))![1]!
      return async () => {
        while (true) {
          const { body } = await ask(`since=${since}&timeout=120000`)
          onBytes(body)
          since = nextBatch.exec(body.toString("latin1"))?.[1] ?? since
        }
      }
    }
    const listen = (token: string) =>
      new Promise<void>((resolve, reject) => {
        const address = `${nextUrl().replace("http", "ws")}${prefix}/socket?access_token=${encodeURIComponent(token)}`
        const socket = new WebSocket(address, ["m.json"], { perMessageDeflate: false })
        socket.on("message", onBytes).on("open", resolve).on("error", reject)
      })

    for (const token of members.slice(0, polls)) {
      const wait = bySync ? await sync(token) : () => poll(token)
      wait().catch((error: Error) => {
        throw error
      })
    }
    for (const token of members.slice(polls)) await listen(token)

    const connection = await HttpConnection.open(url)
    const send = async (turn: number) => {
      awaited = Buffer.from(`message number ${turn}.`)
      reached = 0
      const everybody = new Promise<void>((resolve, reject) => {
        done = resolve
        setTimeout(
          () => reject(new Error(`${reached} of ${members.length} have message ${turn}`)),
          deliveryTimeout
        ).unref()
      })
      const path = `${prefix}/rooms/${room}/send/m.room.message/${run}${bySync ? "sync" : "poll"}${turn}`
      const begin = performance.now()
      const answered = connection
        .request("PUT", path, sender, JSON.stringify({ msgtype: "m.text", body: `message number ${turn}.` }))
        .then(() => performance.now() - begin)
      await everybody
      return { answered: await answered, first: firstAt - begin, last: performance.now() - begin }
    }

    // Before the first counted message, presence must have settled and all clients must wait.
    await sleep(3_000)
    for (let turn = 0; turn < 5; turn++) await send(turn)
    const answered: Array<number> = []
    const first: Array<number> = []
    const last: Array<number> = []
    const spent = () => pids.reduce((sum, pid) => sum + processorTime(pid), 0)
    await sleep(pause)
    const from = Date.now()
    const before = spent()
    for (let turn = 5; turn < messages + 5; turn++) {
      const times = await send(turn)
      answered.push(times.answered)
      first.push(times.first)
      last.push(times.last)
      await sleep(pause)
    }
    return {
      answered: percentiles(answered),
      first: percentiles(first),
      last: percentiles(last),
      processor: (spent() - before) / messages,
      interval: { from, until: Date.now() }
    }
  }
)
