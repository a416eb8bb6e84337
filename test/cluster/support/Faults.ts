/** Faults of a cluster under load: nodes are killed, paused, cut off or replaced, or PostgreSQL is killed. */
import * as fs from "node:fs/promises"
import { Effect } from "effect"
import * as Namespaces from "./Namespaces.ts"

/** A node that faults are applied to. */
export interface FaultyNode {
  readonly kill: Effect.Effect<void>
  readonly stop: Effect.Effect<unknown>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** Starts it again after `kill` or `stop`, and waits until it serves. */
  readonly start: Effect.Effect<void>
  /** The network namespace of the node, if it has one. */
  readonly network: Namespaces.Namespace | undefined
}

export interface FaultyCluster {
  readonly nodes: ReadonlyArray<FaultyNode>
  /** The directory with the `postmaster.pid` of PostgreSQL. */
  readonly postgresDir: string
  /** How long nodes are paused or cut off at most, in seconds. A killed node is started after a third of it at most. */
  readonly longest: number
  /** At least 0, less than 1. */
  readonly random: () => number
}

export interface Fault {
  readonly name: string
  readonly run: Effect.Effect<void>
}

/** The faults that are possible on this machine. */
export const faultsOf = ({ longest, nodes, postgresDir, random }: FaultyCluster): ReadonlyArray<Fault> => {
  const node = Effect.sync(() => nodes[Math.floor(random() * nodes.length)]!)
  const upTo = (seconds: number) => Effect.suspend(() => Effect.sleep(1_000 * (1 + random() * (seconds - 1))))
  const aWhile = upTo(longest)

  const cut = (addresses: (victim: FaultyNode) => ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const victim = yield* node
      const { cut, mend } = victim.network!
      for (const address of addresses(victim)) yield* cut(address)
      yield* aWhile
      for (const address of addresses(victim)) yield* mend(address)
    })
  const others = (victim: FaultyNode) =>
    nodes.flatMap(({ network }) => (network === victim.network || network === undefined ? [] : [network.address]))

  const killed: Fault = {
    name: "a node is killed",
    run: Effect.flatMap(node, ({ kill, start }) => Effect.andThen(kill, Effect.andThen(upTo(longest / 3), start)))
  }
  // Kills are the most frequent.
  const anywhere: ReadonlyArray<Fault> = [
    killed,
    {
      name: "a node is stopped (SIGSTOP)",
      run: Effect.flatMap(node, ({ pause, resume }) => Effect.andThen(pause, Effect.andThen(aWhile, resume)))
    },
    {
      name: "all nodes are replaced",
      run: Effect.forEach(nodes, ({ start, stop }) => Effect.andThen(stop, start), { discard: true })
    },
    {
      name: "PostgreSQL is killed",
      run: Effect.promise(async () => {
        process.kill(Number.parseInt(await fs.readFile(`${postgresDir}/postmaster.pid`, "utf8"), 10), "SIGKILL")
      })
    },
    killed,
    killed
  ]
  if (nodes.some(({ network }) => network === undefined)) return anywhere
  return [
    ...anywhere,
    { name: "a node is cut off from the database", run: cut(() => [Namespaces.databaseAddress]) },
    { name: "a node is cut off from the others", run: cut(others) }
  ]
}
