/** Two home servers: messages from one to the other, coming into a room of the other, and reading what was said there. */
import { atMost, type Benchmark, count, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Crossing, CrossingInput } from "./load/crossing.ts"
import type { RemoteRooms, RemoteRoomsInput } from "./load/remoteRooms.ts"
import { type HoldUp, longer, longestHoldUp, startTwoServers } from "./TwoServers.ts"

const heldUp = ({ slice, whole }: HoldUp) => [
  {
    what: "  event loops held up by signing and verifying",
    value: milliseconds(slice),
    baseline: "-",
    target: atMost(slice, 20, " ms")
  },
  { what: "  by anything", value: milliseconds(whole), baseline: "-" }
]

export const federation: Benchmark = {
  name: "federation",
  measures: "two home servers over TLS; baseline: the same on the server where the room was made",
  run: async ({ quick }) => {
    await using servers = await startTwoServers()
    const [here, there] = [servers.here.url, servers.there.url]
    const amounts = quick ? { senders: 4, flood: 50, single: 5 } : { senders: 16, flood: 5_000, single: 100 }
    const sizes = quick ? { members: 20, state: 20, messages: 50 } : { members: 5_000, state: 5_000, messages: 1_000 }
    const sinceNow = async () => {
      await longestHoldUp(servers.here)
      await longestHoldUp(servers.there)
    }
    await sinceNow()
    const crossing = await runLoad<CrossingInput, Crossing>("crossing", { here, there, ...amounts })
    const whileCrossing = longer(await longestHoldUp(servers.here), await longestHoldUp(servers.there))
    await sinceNow()
    const rooms = await runLoad<RemoteRoomsInput, RemoteRooms>("remoteRooms", { here, there, ...sizes })
    const whileJoining = longer(await longestHoldUp(servers.here), await longestHoldUp(servers.there))
    const latency = (percentile: "p50" | "p99") => ({
      what: `  one message, ${percentile}`,
      value: milliseconds(crossing.there.latency[percentile]),
      baseline: milliseconds(crossing.here.latency[percentile])
    })
    return [
      {
        what: `sent here by ${amounts.senders}, seen there`,
        value: perSecond(crossing.there.perSecond, "PDUs"),
        baseline: `${perSecond(crossing.here.perSecond, "events")} seen here`,
        ratio: ofBaseline(crossing.there.perSecond / crossing.here.perSecond)
      },
      latency("p50"),
      latency("p99"),
      ...heldUp(whileCrossing),
      {
        what: `join: ${count(sizes.members)} members, ${count(sizes.members + sizes.state)} state events`,
        value: milliseconds(rooms.joinBig),
        baseline: `${milliseconds(rooms.joinNew)} for a new room`
      },
      ...heldUp(whileJoining),
      {
        what: `back-fill ${count(rooms.readMessages)} messages`,
        value: milliseconds(rooms.readThere),
        baseline: `${milliseconds(rooms.readHere)} where they were sent`
      }
    ]
  }
}
