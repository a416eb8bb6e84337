/**
 * `npm run test:interop`: Greenroom and servers of other projects, as processes on loopback with TLS, in one room.
 *
 *     npm run test:interop                              every scene, in room versions 1 to 12, each side the founder
 *     npm run test:interop -- --room-version 12         one room version
 *     npm run test:interop -- --founder greenroom       one founder
 *     npm run test:interop -- --server dendrite         with this server instead of Synapse
 *     npm run test:interop -- --server synapse --server dendrite three   the scene of three servers, with both of them
 *     npm run test:interop -- --server synapse --server dendrite --control three   two Synapses and Dendrite, without Greenroom
 *     npm run test:interop -- partition                 scenes whose name contains the word
 *     npm run test:interop -- --minutes 5               begins no scene after 5 minutes
 *     npm run test:interop -- --short                   without scenes that take long
 *
 * In the scene of three servers a second Greenroom takes the place of the server that is not asked for.
 *
 * Needs Python 3 with venv for Synapse, and Go for Dendrite; without both it prints this and exits with 0. Exit code 1: a scene failed that
 * is not among the known failures of Dendrite (`knownFailures.ts`). With `--control` all failures count.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { install } from "../support/Synapse.ts"
import { installDendrite } from "./servers/Dendrite.ts"
import { historyVisibility } from "./servers/historyVisibility.ts"
import { knownFailure, type Occasion } from "./servers/knownFailures.ts"
import { moreScenes } from "./servers/moreScenes.ts"
import { randomPartitions } from "./servers/partitions.ts"
import { type Server, startDendrite, startGreenroom, startSynapse } from "./servers/Server.ts"
import { scenes } from "./servers/scenes.ts"
import { threeServers } from "./servers/threeServers.ts"

const print = (text: string) => process.stdout.write(`${text}\n`)

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    "room-version": { type: "string", multiple: true },
    founder: { type: "string", multiple: true },
    server: { type: "string", multiple: true },
    minutes: { type: "string", default: "1000" },
    short: { type: "boolean", default: false },
    control: { type: "boolean", default: false },
    keep: { type: "boolean" }
  }
})

const versions = (values["room-version"] ?? Array.from({ length: 12 }, (_, i) => `${i + 1}`)).map(Number)
const chosen = [...scenes, ...historyVisibility, randomPartitions, ...moreScenes].filter(
  ({ isLong = false, name }) =>
    (positionals.length === 0 || positionals.some((word) => name.includes(word))) && !(isLong && values.short)
)

const isWanted = (kind: Server["kind"]) => (values.server ?? ["synapse"]).includes(kind)

/** The result of `find`, or undefined, with a printed reason. */
const found = async <A>(kind: Server["kind"], find: () => Promise<A>): Promise<A | undefined> => {
  if (!isWanted(kind)) return undefined
  try {
    return await find()
  } catch (error) {
    print(`No ${kind}: ${error instanceof Error ? error.message : error}`)
    return undefined
  }
}

const end = performance.now() + Number(values.minutes) * 60_000
let stages = 0
let left = 0

let known = 0

/** Reports the failure of a scene. Returns its name, unless the failure is known. */
const reportFailure = (what: string, error: unknown, occasion: Occasion): ReadonlyArray<string> => {
  const fault = error instanceof Error ? error.message : String(error)
  const reason = values.control ? undefined : knownFailure(occasion, fault)
  if (reason !== undefined) known++
  print(`${reason === undefined ? "FAILED" : "known "}  ${what}: ${reason === undefined ? "" : `${reason}: `}${fault}`)
  return reason === undefined ? [what] : []
}

const supports = (version: number) => (server: Server) => version <= (server.newestRoomVersion ?? version)

const runScenes = async (founder: Server, other: Server, version: number): Promise<ReadonlyArray<string>> => {
  const failures: Array<string> = []
  const newest = Math.max(...versions.filter((wanted) => [founder, other].every(supports(wanted))))
  for (const scene of chosen) {
    if (version < (scene.since ?? 1) || (scene.isOnce === true && version !== newest)) continue
    if (performance.now() > end) {
      left++
      continue
    }
    const tag = `${++stages}`
    const what = `version ${version}, founded by ${founder.kind} with ${other.kind}: ${scene.name}`
    const begun = performance.now()
    try {
      const [alice, bob] = [await founder.person(`alice${tag}`), await other.person(`bob${tag}`)]
      await scene.run({ version, founder, other, alice, bob, tag })
      print(`passed  ${what} (${Math.round(performance.now() - begun)} ms)`)
    } catch (error) {
      const occasion = { scene: scene.name, version, kinds: [founder.kind, other.kind] }
      failures.push(...reportFailure(what, error, occasion))
    }
  }
  return failures
}

const trioName = "three servers in one room"
const isTrioChosen = positionals.length === 0 || positionals.some((word) => trioName.includes(word))

/** Each of three servers founds a room that all of them are in. */
const runTrio = async (servers: readonly [Server, Server, Server]): Promise<ReadonlyArray<string>> => {
  const version = Math.min(Math.max(...versions), ...servers.map(({ newestRoomVersion = 12 }) => newestRoomVersion))
  const failures: Array<string> = []
  for (const [index, founder] of servers.entries()) {
    const others = servers.filter((server) => server !== founder)
    const isSecond = servers.findIndex(({ kind }) => kind === founder.kind) < index
    if (isSecond || (values.founder !== undefined && !values.founder.includes(founder.kind))) continue
    if (performance.now() > end) {
      left++
      continue
    }
    const what = `version ${version}, founded by ${founder.kind} with ${others.map(({ kind }) => kind).join(" and ")}: ${trioName}`
    const begun = performance.now()
    try {
      await threeServers({ version, servers: [founder, others[0]!, others[1]!], tag: `${++stages}` })
      print(`passed  ${what} (${Math.round(performance.now() - begun)} ms)`)
    } catch (error) {
      failures.push(...reportFailure(what, error, { scene: trioName, version, kinds: servers.map(({ kind }) => kind) }))
    }
  }
  return failures
}

const main = async (): Promise<number> => {
  const interpreter = await found("synapse", install)
  const dendrite = await found("dendrite", installDendrite)
  if (interpreter === undefined && dendrite === undefined) return 0
  const directory = await mkdtemp(join(tmpdir(), "greenroom-interop-"))
  await chmod(directory, 0o711)
  const third = (port: number) =>
    values.control && interpreter !== undefined
      ? startSynapse(interpreter, directory, port)
      : startGreenroom(directory, port)
  const started = await Promise.allSettled([
    third(28_541),
    ...(interpreter === undefined ? [] : [startSynapse(interpreter, directory, 28_542)]),
    ...(dendrite === undefined ? [] : [startDendrite(dendrite, directory, 28_543)])
  ])
  const servers = started.flatMap((entry) => (entry.status === "fulfilled" ? [entry.value] : []))
  const failures: Array<string> = []
  try {
    for (const entry of started) if (entry.status === "rejected") throw entry.reason
    for (const version of versions) {
      for (const founder of servers) {
        if (values.founder !== undefined && !values.founder.includes(founder.kind)) continue
        // Scenes need Greenroom, or the server in its place, on one side.
        const isOurs = (server: Server) => server === servers[0]
        const others = servers.filter((server) => server.kind !== founder.kind && (isOurs(server) || isOurs(founder)))
        for (const other of others.filter((server) => [server, founder].every(supports(version))))
          failures.push(...(await runScenes(founder, other, version)))
      }
    }
    if (isTrioChosen) {
      if (servers.length < 3) servers.push(await third(28_544))
      failures.push(...(await runTrio([servers[0]!, servers[1]!, servers[2]!])))
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
    if (values.keep === true) print(`Logs are in ${directory}`)
    else await rm(directory, { recursive: true, force: true })
  }
  if (left > 0) print(`${left} scenes were not run: the time was over`)
  if (known > 0) print(`${known} known failures (test/interop/servers/knownFailures.ts)`)
  print(failures.length === 0 ? `All ${known > 0 ? "other " : ""}scenes passed` : `${failures.length} scenes failed`)
  return failures.length === 0 ? 0 : 1
}

process.exitCode = await main()
