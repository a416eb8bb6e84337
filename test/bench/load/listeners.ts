/** Waits in rooms by long polls, each on a connection of its own, and asks again when answered. */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import type { Gatherings } from "./gatherings.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { prefix } from "./People.ts"

export interface ListenersInput extends Pick<Gatherings, "members"> {
  readonly url: string
  readonly seconds: number
}

const endToken = /"end":"([^"]+)"/

/** Returns how many answers there were. */
serveLoad(async ({ members, seconds, url }: ListenersInput): Promise<number> => {
  let answers = 0
  const listen = async ({ room, token }: Gatherings["members"][number]) => {
    const connection = await HttpConnection.open(url)
    let from = "END"
    while (true) {
      const path = `${prefix}/events?from=${from}&timeout=60000&room=${room}`
      const { body, status } = await connection.request("GET", path, token)
      if (status !== 200) throw new Error(`A poll was answered with ${status}`)
      from = endToken.exec(body.toString("latin1"))?.[1] ?? from
      answers++
    }
  }
  await Promise.race([sleep(seconds * 1_000), ...members.map(listen)])
  return answers
})
