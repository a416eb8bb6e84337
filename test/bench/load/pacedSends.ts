/** Sends messages at a fixed rate, and measures the time to each answer. */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix } from "./People.ts"

export interface PacedSendsInput {
  readonly url: string
  readonly tokens: ReadonlyArray<string>
  /** The room that each sends to. */
  readonly rooms: ReadonlyArray<string>
  readonly seconds: number
  /** From one message of a sender to the next, in ms. */
  readonly interval: number
  readonly run: string
}

/** The first second does not count. */
const warmUp = 1_000

serveLoad(async ({ interval, rooms, run, seconds, tokens, url }: PacedSendsInput): Promise<Percentiles> => {
  const body = JSON.stringify({
    msgtype: "m.text",
    body: "What is said in this room is what people say to one another"
  })
  const begin = performance.now()
  const end = begin + warmUp + seconds * 1_000
  const times: Array<number> = []
  const send = async (token: string, index: number) => {
    const connection = await HttpConnection.open(url)
    let due = begin + (interval * index) / tokens.length
    for (let turn = 0; due < end; turn++, due += interval) {
      await sleep(Math.max(0, due - performance.now()))
      const path = `${prefix}/rooms/${rooms[index]}/send/m.room.message/${run}.${index}.${turn}`
      const asked = performance.now()
      await jsonOf(connection.request("PUT", path, token, body))
      if (asked - begin > warmUp) times.push(performance.now() - asked)
    }
  }
  await Promise.all(tokens.map(send))
  return percentiles(times)
})
