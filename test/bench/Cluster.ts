/** The nodes of a cluster on a PostgreSQL of their own, and the rooms that each holds. */
import { PgConnection } from "@effect/sql-pg"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Hash, Redacted } from "effect"
import type { Postgres } from "./Postgres.ts"
import { type Server, startServer } from "./Server.ts"
import type { Wires } from "./Wires.ts"

/** The shards of a cluster (`ClusterRunner`). */
const shards = 300

/** The shard of an actor, computed as by Effect's `Sharding`. */
const shardOf = (id: string): number => Math.abs(Hash.string(id) % shards) + 1

/** The holder of each shard that a node has. */
const holders = async ({ url }: Postgres): Promise<ReadonlyMap<number, string>> => {
  const asked = Effect.flatMap(PgConnection.make({ url: Redacted.make(url) }), (connection) =>
    connection.query("SELECT shard, holder FROM shard_fences WHERE holder IS NOT NULL")
  )
  const { rows } = await Effect.runPromise(Effect.scoped(asked))
  return new Map(rows.map(({ holder, shard }) => [Number(shard), String(holder)]))
}

/** Waits until `nodes` nodes share all shards. Returns the holder of each shard. */
const sharedAmong = async (postgres: Postgres, nodes: number): Promise<ReadonlyMap<number, string>> => {
  const found = await holders(postgres)
  const counts = Object.values(Object.groupBy(found.values(), (holder) => holder)).map((held) => held!.length)
  const isDone = found.size === shards && counts.length === nodes && counts.every((n) => n > shards / nodes / 2)
  if (isDone) return found
  await new Promise((resolve) => setTimeout(resolve, 500))
  return sharedAmong(postgres, nodes)
}

export interface Cluster {
  readonly postgres: Postgres
  readonly servers: ReadonlyArray<Server>
  /** Whether the first node holds the room, which is named as it stands in paths. */
  readonly isHere: (room: string) => boolean
}

/** Starts nodes on a PostgreSQL; 0 for one process without `--cluster`. With `wires` they reach it and each other over those. */
export const startCluster = async (
  nodes: number,
  resources: AsyncDisposableStack,
  postgres: Postgres,
  wires?: Wires
): Promise<Cluster> => {
  const environment = { GREENROOM_DATABASE_URL: wires?.databaseUrl ?? postgres.url }
  const addresses = async (port: number) =>
    wires === undefined
      ? {}
      : { GREENROOM_CLUSTER_HOST: await wires.toNode(port), GREENROOM_CLUSTER_LISTEN_HOST: "127.0.0.1" }
  const servers: Array<Server> = []
  let first: string | undefined
  if (nodes === 0) servers.push(resources.use(await startServer({ environment })))
  for (let node = 0; node < nodes; node++) {
    const port = await Effect.runPromise(freePort)
    const clustered = {
      GREENROOM_CLUSTER: "true",
      GREENROOM_CLUSTER_PORT: String(port),
      ...(await addresses(port))
    }
    servers.push(resources.use(await startServer({ environment: { ...environment, ...clustered } })))
    first ??= (await sharedAmong(postgres, 1)).get(1)
  }
  const held = nodes === 0 ? undefined : await sharedAmong(postgres, nodes)
  const isHere = (room: string) => held === undefined || held.get(shardOf(decodeURIComponent(room))) === first
  return { postgres, servers, isHere }
}
