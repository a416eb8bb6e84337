/** Sends a message to a device by each request, each sender to the next one, as fast as they are answered. */
import { serveLoad } from "../LoadProcess.ts"
import { type ClosedLoop, closedLoop, type Throughput } from "./ClosedLoop.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, type Person, todayPrefix } from "./People.ts"

export interface ToDeviceInput extends ClosedLoop {
  readonly url: string
  readonly people: ReadonlyArray<Person>
  /** How many bytes the ciphertext of a message has. */
  readonly bytes: number
  /** Makes the transaction IDs of this run its own. */
  readonly run: string
}

serveLoad(async ({ bytes, people, run, url, ...loop }: ToDeviceInput): Promise<Throughput> => {
  const connections = await Promise.all(people.map(() => HttpConnection.open(url)))
  const content = { algorithm: "m.olm.v1.curve25519-aes-sha2", ciphertext: "x".repeat(bytes) }
  const bodies = people.map((_, worker) => {
    const { userId } = people[(worker + 1) % people.length]!
    return JSON.stringify({ messages: { [userId]: { "*": content } } })
  })
  return closedLoop(loop, people.length, async (worker, turn) => {
    const path = `${todayPrefix}/sendToDevice/m.room.encrypted/${run}.${worker}.${turn}`
    await jsonOf(connections[worker]!.request("PUT", path, people[worker]!.token, bodies[worker]))
  })
})
