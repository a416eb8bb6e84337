/**
 * Two home servers in today's dialect: messages from one to the other, and what one of them missed while it was away; and a
 * room on a thousand servers, which are destinations that only answer.
 */
import { atMost, type Benchmark, count, type Figure, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { CatchUpInput } from "./load/catchUp.ts"
import type { Crossing, CrossingInput } from "./load/crossing.ts"
import type { Deserted, DesertedInput } from "./load/deserted.ts"
import type { FederatedMessages, FederatedMessagesInput } from "./load/federatedMessages.ts"
import type { FloodInput } from "./load/flood.ts"
import { register } from "./load/People.ts"
import type { SharedRoom, SharedRoomInput } from "./load/sharedRoom.ts"
import { startManyServers } from "./ManyServers.ts"
import { processorTime } from "./Processes.ts"
import { removeDirectory, startServer, temporaryDirectory } from "./Server.ts"
import { installSynapse, startSynapse } from "./SynapseBeside.ts"
import { startTwoServers, type TwoServers } from "./TwoServers.ts"
import { moveMembersAway } from "./Unreachable.ts"

const crossings = async ({ here, hereName, there }: TwoServers, quick: boolean): Promise<ReadonlyArray<Figure>> => {
  const amounts = quick ? { senders: 4, flood: 50, single: 5 } : { senders: 16, flood: 5_000, single: 100 }
  const urls = { here: here.url, there: there.url }
  const crossing = await runLoad<CrossingInput, Crossing>("crossing", {
    ...urls,
    ...amounts,
    today: true,
    through: hereName
  })
  return [
    {
      what: `today's dialect: sent here by ${amounts.senders}, seen there`,
      value: perSecond(crossing.there.perSecond, "PDUs"),
      baseline: `${perSecond(crossing.here.perSecond, "events")} seen here`,
      ratio: ofBaseline(crossing.there.perSecond / crossing.here.perSecond)
    },
    ...(["p50", "p99"] as const).map((percentile) => ({
      what: `  one message, ${percentile}`,
      value: milliseconds(crossing.there.latency[percentile]),
      baseline: milliseconds(crossing.here.latency[percentile])
    }))
  ]
}

const senders = 16

const messagesBetween = (input: Omit<FederatedMessagesInput, "messages">, quick: boolean) =>
  runLoad<FederatedMessagesInput, FederatedMessages>("federatedMessages", { ...input, messages: quick ? 20 : 1_000 })

/** Two Synapses from PyPI with the same load; why not, where they cannot be had. */
const betweenSynapses = async (quick: boolean): Promise<FederatedMessages | string> => {
  const python = await installSynapse()
  if (typeof python !== "string") return python.reason
  const directories = [await temporaryDirectory(), await temporaryDirectory()] as const
  try {
    const here = await startSynapse(python, directories[0])
    try {
      const there = await startSynapse(python, directories[1])
      try {
        const tokens: Array<string> = []
        for (let n = 0; n < senders; n++) tokens.push((await here.register(`sender${n}`, "a password")).access_token)
        const guest = (await there.register("guest", "a password")).access_token
        const ends = { here: here.url, there: there.url, pids: [here.pid, there.pid], through: here.serverName }
        return await messagesBetween({ ...ends, senders: tokens, guest }, quick)
      } finally {
        await there.stop()
      }
    } finally {
      await here.stop()
    }
  } finally {
    for (const directory of directories) await removeDirectory(directory)
  }
}

/** The processor time of a message at both servers, beside two Synapses. */
const costs = async (servers: TwoServers, quick: boolean): Promise<ReadonlyArray<Figure>> => {
  const { here, hereName, there } = servers
  const people = await register(here.url, "sender", senders)
  const [guest] = await register(there.url, "follower", 1)
  const ends = { here: here.url, there: there.url, pids: [here.pid, there.pid], through: hereName }
  const ours = await messagesBetween({ ...ends, senders: people.map(({ token }) => token), guest: guest!.token }, quick)
  const theirs = await betweenSynapses(quick)
  const what = "  processor time of both servers for a message"
  if (typeof theirs === "string") {
    process.stdout.write(`No Synapse: ${theirs}\n`)
    return [{ what, value: milliseconds(ours.processor), baseline: "-" }]
  }
  const ratio = ours.processor / theirs.processor
  return [
    {
      what,
      value: milliseconds(ours.processor),
      baseline: `${milliseconds(theirs.processor)}, two Synapses`,
      ratio: ofBaseline(ratio),
      target: atMost(ratio, 0.2)
    }
  ]
}

const outage = async (servers: TwoServers, quick: boolean): Promise<ReadonlyArray<Figure>> => {
  const messages = quick ? 100 : 10_000
  const { here, hereName } = servers
  const { from, guest, room, tokens } = await runLoad<SharedRoomInput, SharedRoom>("sharedRoom", {
    here: here.url,
    there: servers.there.url,
    hereName,
    senders: 16
  })
  let sending = 0
  await servers.restartThere(async () => {
    sending = await runLoad<FloodInput, number>("flood", { url: here.url, tokens, room, messages })
  })
  const there = servers.there.url
  const time = await runLoad<CatchUpInput, number>("catchUp", { there, guest, room, from, messages })
  return [
    {
      what: `catch-up of ${count(messages)} messages after an outage`,
      value: milliseconds(time),
      baseline: `${milliseconds(sending)} to send them`,
      ratio: ofBaseline(time / sending)
    }
  ]
}

/** The cost of one message that goes to many servers. Members are moved to servers of their own in the database. */
const wideRoom = async (quick: boolean): Promise<ReadonlyArray<Figure>> => {
  const [servers, messages] = quick ? [10, 5] : [1_000, 20]
  const serverName = "here.test"
  const dataDir = await temporaryDirectory()
  try {
    await using many = await startManyServers()
    let scene: Deserted
    {
      await using server = await startServer({ dataDir, serverName })
      scene = await runLoad<DesertedInput, Deserted>("deserted", { url: server.url, servers, today: true })
      await moveMembersAway(dataDir)
    }
    const addresses = Array.from({ length: servers }, (_, index) => `away${index}.test=127.0.0.1:${many.port}`)
    await using server = await startServer({
      dataDir,
      serverName,
      environment: { GREENROOM_FEDERATION_SERVERS: addresses.join(","), GREENROOM_FEDERATION_VERIFY: "false" }
    })
    const send = async (room: string, run: string) => {
      for (let turn = 0; turn < messages; turn++) {
        const path = `/_matrix/client/v3/rooms/${room}/send/m.room.message/${run}${turn}`
        const response = await fetch(server.url + path, {
          method: "PUT",
          headers: { authorization: `Bearer ${scene.owner}`, "content-type": "application/json" },
          body: JSON.stringify({ msgtype: "m.text", body: `${run} ${turn}` })
        })
        if (!response.ok) throw new Error(`${path}: ${await response.text()}`)
        if (room === scene.desertedRoom) await many.received(servers)
      }
    }
    const measured = async (room: string, run: string) => {
      const [begin, before] = [performance.now(), processorTime(server.pid)]
      await send(room, run)
      return {
        time: (performance.now() - begin) / messages,
        processor: (processorTime(server.pid) - before) / messages
      }
    }
    await measured(scene.desertedRoom, "warm")
    await measured(scene.localRoom, "warm")
    const [wide, local] = [await measured(scene.desertedRoom, "wide"), await measured(scene.localRoom, "local")]
    return [
      {
        what: `one message to ${count(servers)} servers, until all have it`,
        value: milliseconds(wide.time),
        baseline: `${milliseconds(local.time)} to a local room`
      },
      {
        what: "  processor time of the gateway for each server",
        value: `${((wide.processor - local.processor) / servers).toFixed(2)} ms`,
        baseline: `${milliseconds(local.processor)} for the message`
      }
    ]
  } finally {
    await removeDirectory(dataDir)
  }
}

export const todayFederation: Benchmark = {
  name: "today-federation",
  measures: "two home servers in today's dialect, an outage, a room on 1,000 servers; baseline: the server of the room",
  run: async ({ quick }) => {
    const figures: Array<Figure> = []
    {
      await using servers = await startTwoServers()
      figures.push(...(await crossings(servers, quick)))
      figures.push(...(await costs(servers, quick)))
      figures.push(...(await outage(servers, quick)))
    }
    return [...figures, ...(await wideRoom(quick))]
  }
}
