/**
 * The cost of waiting clients in a cluster, against one process without `--cluster`: of idle ones, and of a message to the members of a
 * room. They wait by `/sync`, the same number at each node. All clusters run at once, since idle ones cost each other nothing.
 */
import { atMost, type BenchmarkOptions, count, type Figure, ofBaseline } from "./Benchmark.ts"
import { type Cluster, startCluster } from "./Cluster.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Audience, AudienceInput } from "./load/audience.ts"
import type { Delivered, DeliveryInput } from "./load/delivery.ts"
import type { AtRest, IdleNodes, IdleNodesInput } from "./load/idleNodes.ts"
import type { Person } from "./load/People.ts"
import type { RegisterInput } from "./load/register.ts"
import { startPostgres } from "./Postgres.ts"
import { Wires } from "./Wires.ts"

/** A cluster whose statements and messages are recorded. */
interface Watched {
  readonly what: string
  readonly cluster: Cluster
  readonly wires: Wires
}

const startWatched = async (nodes: number, resources: AsyncDisposableStack): Promise<Watched> => {
  const what = nodes === 0 ? "without --cluster" : nodes === 1 ? "1 node" : `${nodes} nodes`
  const postgres = resources.use(await startPostgres(100))
  const wires = resources.use(await Wires.make(postgres))
  return { what, wires, cluster: await startCluster(nodes, resources, postgres, wires) }
}

// Idle clients

/** How many `/sync`s wait at each node, how long the memory must be quiet, and how long the rest is, in seconds. */
const idleSizes = ({ quick }: BenchmarkOptions) =>
  quick ? { polls: 20, seconds: 1, rest: 3 } : { polls: 1_000, seconds: 8, rest: 15 }

const idleClients = async (all: ReadonlyArray<Watched>, options: BenchmarkOptions): Promise<ReadonlyArray<Figure>> => {
  const { polls, ...times } = idleSizes(options)
  const perCluster = await Promise.all(
    all.map(async ({ cluster: { servers } }) => {
      const input = { url: servers[0]!.url, users: polls * servers.length }
      const people = await runLoad<RegisterInput, ReadonlyArray<Person>>("register", input)
      const tokens = people.map(({ token }) => token)
      return servers.map(({ pid, url }, index) => ({ url, pid, tokens: tokens.slice(index * polls).slice(0, polls) }))
    })
  )
  const input = { ...times, servers: perCluster.flat() }
  const { interval, waiting, without } = await runLoad<IdleNodesInput, IdleNodes>("idleNodes", input)
  let next = 0
  const found = all.map(({ cluster: { servers }, what, wires }) => {
    const part = (measured: ReadonlyArray<AtRest>) => measured.slice(next, next + servers.length)
    const [before, after] = [part(without), part(waiting)]
    next += servers.length
    const more = (of: keyof AtRest) => after.reduce((sum, node, index) => sum + node[of] - before[index]![of], 0)
    return {
      what,
      memory: more("memory") / (polls * servers.length),
      processor: more("processor") / servers.length,
      atRest: before.reduce((sum, { processor }) => sum + processor, 0) / servers.length,
      statements: wires.ownStatements(interval)
    }
  })
  const [alone, ...clusters] = found
  const perNode = (ms: number) => `${ms.toFixed(1)} ms/s`
  return clusters.flatMap(
    ({ atRest, memory, processor, statements, what }): ReadonlyArray<Figure> => [
      {
        what: `${what}, each of ${count(polls)} idle /syncs a node`,
        value: `${memory.toFixed(1)} KB`,
        baseline: `${alone!.memory.toFixed(1)} KB ${alone!.what}`,
        ratio: ofBaseline(memory / alone!.memory)
      },
      {
        what: "  processor time of a node for all of them",
        value: perNode(processor),
        baseline: `${perNode(alone!.processor)} ${alone!.what}`
      },
      { what: "  of a node without them", value: perNode(atRest), baseline: perNode(alone!.atRest) },
      {
        what: `  our statements in ${times.rest} s`,
        value: count(statements.length),
        baseline: count(alone!.statements.length),
        target: atMost(statements.length, 0)
      }
    ]
  )
}

// Delivery

/** Members of the large room and of the small one. */
const deliverySizes = ({ quick }: BenchmarkOptions) =>
  quick ? { members: 24, few: 6, messages: 3 } : { members: 300, few: 30, messages: 20 }

interface DeliveryCost extends Delivered {
  readonly members: number
  /** Messages between nodes, and statements to PostgreSQL, for each message. */
  readonly sent: number
  readonly statements: number
}

/** Messages to a room whose members wait at all nodes. The sender is at the first, another one holds the room if there is one. */
const deliver = async (
  { cluster, wires }: Watched,
  { members, messages, name }: { readonly members: number; readonly messages: number; readonly name: string }
): Promise<DeliveryCost> => {
  const [first, ...others] = cluster.servers
  const audience = await elsewhere(cluster, members, name)
  const delivered = await runLoad<DeliveryInput, Delivered>("delivery", {
    ...audience,
    url: first!.url,
    otherUrls: others.map(({ url }) => url),
    pids: cluster.servers.map(({ pid }) => pid),
    polls: members,
    messages,
    bySync: true,
    pause: 150,
    run: name
  })
  return {
    ...delivered,
    members,
    sent: wires.messagesIn(delivered.interval) / messages,
    statements: wires.ownStatements(delivered.interval).length / messages
  }
}

/** A room that the first node does not hold, if there are others, and its members. */
const elsewhere = async (cluster: Cluster, members: number, name: string): Promise<Audience> => {
  for (let attempt = 0; ; attempt++) {
    const input = { url: cluster.servers[0]!.url, members, name: `${name}${attempt}x` }
    const empty = await runLoad<AudienceInput, Audience>("audience", input)
    if (cluster.servers.length < 2 || !cluster.isHere(empty.room)) return empty
  }
}

const processorMs = (value: number): string => `${value.toFixed(3)} ms`

const delivery = async (all: ReadonlyArray<Watched>, options: BenchmarkOptions): Promise<ReadonlyArray<Figure>> => {
  const { few, members, messages } = deliverySizes(options)
  const small: Array<DeliveryCost> = []
  const large: Array<DeliveryCost> = []
  // Those with few members come first, and compile the program.
  for (const watched of all) small.push(await deliver(watched, { members: few, messages, name: "few" }))
  for (const watched of all) large.push(await deliver(watched, { members, messages, name: "many" }))
  const alone = large[0]!.processor / members
  return all.slice(1).flatMap(({ what }, index): ReadonlyArray<Figure> => {
    const [cost, costOfFew] = [large[index + 1]!, small[index + 1]!]
    const each = cost.processor / members
    const growth = (of: "sent" | "statements") => cost[of] - costOfFew[of]
    return [
      {
        what: `${what}, a message to each of ${members} /syncs at all nodes`,
        value: processorMs(each),
        baseline: `${processorMs(alone)} ${all[0]!.what}`,
        ratio: ofBaseline(each / alone)
      },
      {
        what: "  messages between nodes, each",
        value: cost.sent.toFixed(1),
        baseline: `${costOfFew.sent.toFixed(1)} with ${few} members`,
        target: atMost(growth("sent"), 0.2, " more")
      },
      {
        what: "  our statements, each",
        value: cost.statements.toFixed(1),
        baseline: `${costOfFew.statements.toFixed(1)} with ${few} members`
      }
    ]
  })
}

export const waitingClients = async (options: BenchmarkOptions): Promise<ReadonlyArray<Figure>> => {
  await using resources = new AsyncDisposableStack()
  const all = await Promise.all([0, 1, 2, 3].map((nodes) => startWatched(nodes, resources)))
  return [...(await idleClients(all, options)), ...(await delivery(all, options))]
}
