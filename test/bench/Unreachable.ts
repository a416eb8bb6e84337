/**
 * The cost of a hundred unreachable destinations for a home server: 50 messages a second go to a
 * room whose members are of those servers, while others send in rooms of their own as fast as they are answered.
 *
 * A server that does not exist cannot join, so the room is made with local members, who are moved to servers of
 * their own in the database, before the gateway starts again and reads the room from there.
 */
import { join } from "node:path"
import { atLeast, type Benchmark, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { pairedRatio, rounds, typical } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { Deserted, DesertedInput } from "./load/deserted.ts"
import { PostgresConnection } from "./load/PostgresConnection.ts"
import type { PacedSendsInput } from "./load/pacedSends.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import type { Percentiles } from "./Percentiles.ts"
import { removeDirectory, startServer, temporaryDirectory } from "./Server.ts"

const serverName = "here.test"
const movedAway = `regexp_replace(%, '@away([0-9]+):here\\.test', '@away\\1:away\\1.test', 'g')`

/** The columns that name the members of a room. */
const columns = {
  events: ["body", "state_key", "sender"],
  state_deltas: ["state_key"],
  memberships: ["user_id", "sender"]
}

/** Moves the members whose names begin with `away` to servers of their own. */
export const moveMembersAway = async (dataDir: string): Promise<void> => {
  const database = await PostgresConnection.open(join(dataDir, "postgres", ".s.PGSQL.5432"), "greenroom", "greenroom")
  for (const [table, names] of Object.entries(columns)) {
    const changes = names.map((name) => `${name} = ${movedAway.replace("%", name)}`)
    const moved = names.map((name) => `${name} LIKE '%@away%'`)
    await database.query(`UPDATE ${table} SET ${changes.join(", ")} WHERE ${moved.join(" OR ")}`)
  }
  database.close()
}

/** Addresses that refuse connections, since nothing listens there. */
const nowhere = (servers: number): string =>
  Array.from({ length: servers }, (_, index) => `away${index}.test=127.0.0.1:9`).join(",")

interface Scene extends Senders, Deserted {}

const prepare = async (dataDir: string, senders: number, servers: number): Promise<Scene> => {
  await using server = await startServer({ dataDir, serverName })
  const prepared = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders })
  const deserted = await runLoad<DesertedInput, Deserted>("deserted", { url: server.url, servers })
  await moveMembersAway(dataDir)
  return { ...prepared, ...deserted }
}

export const unreachable: Benchmark = {
  name: "unreachable",
  measures: "sends while 50 messages a second go to unreachable servers; baseline: while they go to a local room",
  run: async (options) => {
    const { rounds: total, ...loop } = rounds(options)
    const senders = options.quick ? 4 : 32
    const servers = options.quick ? 5 : 100
    const dataDir = await temporaryDirectory()
    try {
      const scene = await prepare(dataDir, senders, servers)
      await using server = await startServer({
        dataDir,
        serverName,
        environment: { GREENROOM_FEDERATION_SERVERS: nowhere(servers) }
      })
      const { url } = server
      const measure = async (room: string, run: string) => {
        const seconds = loop.seconds + loop.warmUp
        const tokens = Array.from({ length: 5 }, () => scene.owner)
        const rooms = tokens.map(() => room)
        const beside = runLoad<PacedSendsInput, Percentiles>("pacedSends", {
          url,
          tokens,
          rooms,
          seconds,
          interval: 100,
          run
        })
        const sends = await runLoad<SendsInput, Throughput>("sends", { ...loop, ...scene, url, run })
        await beside
        return sends
      }
      const away: Array<Throughput> = []
      const local: Array<Throughput> = []
      for (let round = 0; round < total; round++) {
        local.push(await measure(scene.localRoom, `local${round}`))
        away.push(await measure(scene.desertedRoom, `away${round}`))
      }
      const [ours, theirs] = [typical(away), typical(local)]
      const ratio = pairedRatio(away, local)
      return [
        {
          what: `sends beside ${servers} unreachable servers`,
          value: perSecond(ours.perSecond, "events"),
          baseline: perSecond(theirs.perSecond, "events"),
          ratio: ofBaseline(ratio),
          target: atLeast(ratio, 0.95)
        },
        { what: "  until the answer, p99", value: milliseconds(ours.p99), baseline: milliseconds(theirs.p99) }
      ]
    } finally {
      await removeDirectory(dataDir)
    }
  }
}
