/**
 * Messages that cross from one home server to another: people of the first send to a room, and one of each server follows
 * it. How long until the follower there has a message, and the follower here.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import { type Percentiles, percentiles } from "../Percentiles.ts"
import { Follower } from "./Follower.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createRoom, createTodaysRoom, join, jsonOf, prefix, register } from "./People.ts"

export interface CrossingInput {
  readonly here: string
  readonly there: string
  readonly senders: number
  /** The room has a version of today's, and what belongs to it travels in today's dialect. */
  readonly today?: boolean
  /** The server through which the guest joins, where the room's ID names none. */
  readonly through?: string
  /** How many are sent as fast as they are answered, and how many one by one. */
  readonly flood: number
  readonly single: number
}

interface Seen {
  /** Messages a second, from the first request to the last message seen. */
  readonly perSecond: number
  readonly latency: Percentiles
}

export interface Crossing {
  readonly here: Seen
  readonly there: Seen
}

serveLoad(async ({ flood, here, senders, single, there, through, today }: CrossingInput): Promise<Crossing> => {
  const people = await register(here, "speaker", senders)
  const [guest] = await register(there, "guest", 1)
  const connection = await HttpConnection.open(here)
  const room = await (today === true ? createTodaysRoom : createRoom)(connection, people[0]!.token)
  for (const { token } of people.slice(1)) await join(connection, token, room)
  await join(await HttpConnection.open(there), guest!.token, room, through)

  const followers = { here: new Follower(), there: new Follower() }
  const lost = (error: Error) => {
    throw error
  }
  followers.here.follow(here, people[0]!.token).catch(lost)
  followers.there.follow(there, guest!.token).catch(lost)
  await sleep(1_000)

  const connections = await Promise.all(people.map(() => HttpConnection.open(here)))
  const send = (sender: number, body: string) =>
    jsonOf(
      connections[sender]!.request(
        "PUT",
        `${prefix}/rooms/${room}/send/m.room.message/${body}`,
        people[sender]!.token,
        JSON.stringify({ msgtype: "m.text", body })
      )
    )

  const times = { here: [] as Array<number>, there: [] as Array<number> }
  for (let turn = 0; turn < single; turn++) {
    const body = `single.${turn}`
    const begin = performance.now()
    await send(turn % senders, body)
    times.here.push((await followers.here.until([body])) - begin)
    times.there.push((await followers.there.until([body])) - begin)
    await sleep(20)
  }

  const bodies = Array.from({ length: flood }, (_, index) => `flood.${index}`)
  const begin = performance.now()
  let next = 0
  await Promise.all(
    people.map(async (_, sender) => {
      while (next < flood) await send(sender, bodies[next++]!)
    })
  )
  const rate = (end: number) => flood / ((end - begin) / 1_000)
  return {
    here: { perSecond: rate(await followers.here.until(bodies)), latency: percentiles(times.here) },
    there: { perSecond: rate(await followers.there.until(bodies)), latency: percentiles(times.there) }
  }
})
