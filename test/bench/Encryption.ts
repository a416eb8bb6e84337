/**
 * End-to-end encryption: messages to devices that are durable when they are answered, against bare INSERTs of the same size, and the
 * keys of everybody in a large room.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import {
  atLeast,
  atMost,
  type Benchmark,
  type BenchmarkOptions,
  count,
  type Figure,
  milliseconds,
  ofBaseline,
  perSecond
} from "./Benchmark.ts"
import { pairedRatio, rounds, senderCount, typical } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { InsertsInput } from "./load/inserts.ts"
import type { KeyQueries, KeyQueriesInput } from "./load/keyQueries.ts"
import type { Person } from "./load/People.ts"
import type { RegisterInput } from "./load/register.ts"
import type { ToDeviceInput } from "./load/toDevice.ts"
import { startPostgres } from "./Postgres.ts"
import { removeDirectory, startServer, temporaryDirectory } from "./Server.ts"

/** The size of the ciphertext of a room key for one device. */
const messageBytes = 900

const measureToDevice = async (options: BenchmarkOptions): Promise<ReadonlyArray<Figure>> => {
  const { rounds: total, ...loop } = rounds(options)
  const senders = senderCount(options)
  await using postgres = await startPostgres(senders + 20)
  await using server = await startServer()
  const { url } = server
  const people = await runLoad<RegisterInput, ReadonlyArray<Person>>("register", { url, users: senders })
  const inserts: Array<Throughput> = []
  const sends: Array<Throughput> = []
  for (let round = 0; round < total; round++) {
    const { socketPath } = postgres
    const rows: InsertsInput = { ...loop, socketPath, connections: senders, rowBytes: messageBytes }
    inserts.push(await runLoad<InsertsInput, Throughput>("inserts", rows))
    const messages: ToDeviceInput = { ...loop, url, people, bytes: messageBytes, run: `round${round}` }
    sends.push(await runLoad<ToDeviceInput, Throughput>("toDevice", messages))
  }
  const [insert, send] = [typical(inserts), typical(sends)]
  const ratio = pairedRatio(sends, inserts)
  return [
    {
      what: `messages to devices, ${senders} senders`,
      value: perSecond(send.perSecond, "messages"),
      baseline: `${perSecond(insert.perSecond, "INSERTs")}, ${senders} connections`,
      ratio: ofBaseline(ratio),
      target: atLeast(ratio, 0.3)
    },
    { what: "  until the answer, p99", value: milliseconds(send.p99), baseline: milliseconds(insert.p99) }
  ]
}

const asToken = "token-of-the-application-service"

/** Users of an application service log in without passwords, which would cost the server much to check. */
const registration = `id: members
url: null
as_token: ${asToken}
hs_token: token-of-the-home-server
sender_localpart: members
rate_limited: false
namespaces:
  users:
    - exclusive: true
      regex: '@member.*'
`

const measureKeyQueries = async ({ quick }: BenchmarkOptions): Promise<ReadonlyArray<Figure>> => {
  const directory = await temporaryDirectory()
  const file = path.join(directory, "members.yaml")
  await fs.writeFile(file, registration)
  await using server = await startServer({ environment: { GREENROOM_APP_SERVICE_FILES: file } })
  const { url } = server
  const [members, devices] = quick ? [20, 2] : [500, 5]
  const input = { url, asToken, members, devices, turns: quick ? 3 : 50 }
  const found = await runLoad<KeyQueriesInput, KeyQueries>("keyQueries", input)
  await removeDirectory(directory)
  return [
    {
      what: `keys of ${count(members)} users with ${devices} devices, p50`,
      value: milliseconds(found.p50),
      baseline: "-",
      target: atMost(found.p50, 50, " ms")
    },
    { what: "  p99", value: milliseconds(found.p99), baseline: "-" },
    { what: "  size", value: `${count(found.size / 1024)} KB`, baseline: "-" }
  ]
}

export const encryption: Benchmark = {
  name: "encryption",
  measures: "durable messages to devices, and the keys of a large room; baseline: bare INSERTs of the same size",
  run: async (options) => [...(await measureToDevice(options)), ...(await measureKeyQueries(options))]
}
