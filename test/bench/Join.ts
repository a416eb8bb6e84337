/**
 * The join of a large room of another server, in today's dialect, until the whole state is known and a message of the new
 * member is sent. If Python is installed, Synapse from PyPI joins the same room afterwards, with faster joins off, on a PostgreSQL
 * with the same settings.
 */
import { atMost, type Benchmark, count, type Figure, milliseconds, ofBaseline } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { BigRoomInput } from "./load/bigRoom.ts"
import { register } from "./load/People.ts"
import { startPostgres } from "./Postgres.ts"
import { type Used, used } from "./Processes.ts"
import { removeDirectory, temporaryDirectory } from "./Server.ts"
import { installSynapseOnPostgres, startSynapse } from "./SynapseBeside.ts"
import { longer, longestHoldUp, startTwoServers, type TwoServers } from "./TwoServers.ts"

const post = async (url: string, token: string, method: "POST" | "PUT", body: object) => {
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body)
  })
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`)
  await response.arrayBuffer()
}

/** Joins the room through a server, and sends a message to it. */
const enter = async (url: string, token: string, room: string, through: string) => {
  const [id, via] = [encodeURIComponent(room), encodeURIComponent(through)]
  await post(`${url}/_matrix/client/v3/join/${id}?via=${via}&server_name=${via}`, token, "POST", {})
  await post(`${url}/_matrix/client/v3/rooms/${id}/send/m.room.message/first`, token, "PUT", {
    msgtype: "m.text",
    body: "here"
  })
}

const mebibytes = (value: number): string => `${count(value)} MiB`

/** The cost for Synapse, or why it could not be measured. */
const besideSynapse = async (servers: TwoServers, room: string): Promise<Used | string> => {
  const python = await installSynapseOnPostgres()
  if (typeof python !== "string") return python.reason
  const directory = await temporaryDirectory()
  await using postgres = await startPostgres(50)
  try {
    const synapse = await startSynapse(python, directory, postgres)
    try {
      const { access_token } = await synapse.register("guest", "correct horse battery staple")
      return await used(synapse.pid, () => enter(synapse.url, access_token, room, servers.hereName))
    } finally {
      await synapse.stop()
    }
  } finally {
    await removeDirectory(directory)
  }
}

export const join: Benchmark = {
  name: "join",
  measures: "the join of a large room by today's federation; baseline: Synapse joins the same room",
  run: async ({ quick }) => {
    await using servers = await startTwoServers({ onLoopback: true })
    const { here, there } = servers
    const sizes = quick ? { members: 50, state: 50 } : { members: 10_000, state: 10_000 }
    const room = await runLoad<BigRoomInput, string>("bigRoom", { url: here.url, ...sizes })
    const [guest] = await register(there.url, "guest", 1)
    await longestHoldUp(here)
    await longestHoldUp(there)
    let given: Used | undefined
    const taken = await used(there.pid, async () => {
      given = await used(here.pid, () => enter(there.url, guest!.token, room, servers.hereName))
    })
    const held = longer(await longestHoldUp(here), await longestHoldUp(there))
    const theirs = await besideSynapse(servers, room)
    const synapse = typeof theirs === "string" ? undefined : theirs
    const compared = (
      what: string,
      show: (value: number) => string,
      of: (each: Used) => number
    ): ReadonlyArray<Figure> => [
      {
        what,
        value: show(of(taken)),
        baseline: synapse === undefined ? "-" : `${show(of(synapse))}, Synapse`,
        ...(synapse === undefined ? {} : { ratio: ofBaseline(of(taken) / of(synapse)) }),
        ...(synapse === undefined ? {} : { target: atMost(of(taken) / of(synapse), 0.2) })
      }
    ]
    if (typeof theirs === "string") process.stdout.write(`No Synapse: ${theirs}\n`)
    return [
      ...compared(
        `join: ${count(sizes.members)} members, ${count(sizes.members + sizes.state)} state events`,
        milliseconds,
        (entry) => entry.time
      ),
      ...compared("  processor time of the joining server", milliseconds, (entry) => entry.processor),
      ...compared("  memory of the joining server, above idle", mebibytes, (entry) => entry.memory),
      { what: "  processor time of the resident server", value: milliseconds(given!.processor), baseline: "-" },
      { what: "  memory of the resident server", value: mebibytes(given!.memory), baseline: "-" },
      {
        what: "  event loops held up by a slice",
        value: milliseconds(held.slice),
        baseline: "-",
        target: atMost(held.slice, 20, " ms")
      },
      { what: "  by anything", value: milliseconds(held.whole), baseline: "-", target: atMost(held.whole, 20, " ms") }
    ]
  }
}
