/**
 * Records the fixtures in `packages/room/test/fixtures/synapse`: rooms of every version on two Synapses with partitions, and forged events
 * with the verdicts of Synapse.
 *
 *     node test/interop/recordSynapseFixtures.ts               versions 1 to 12
 *     node test/interop/recordSynapseFixtures.ts 10 12         some of them
 *
 * It needs Python 3 with venv, installs Synapse from PyPI into `~/.cache/greenroom`, listens on ports 28441 to 28462 of
 * 127.0.0.1, and takes about a minute a version. Event IDs differ from run to run, since they hash timestamps; the signing keys do
 * not.
 */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Synapse from "../support/Synapse.ts"
import { forgedJoins, forgeries, unfederated } from "./synapse/forgeries.ts"
import { forks } from "./synapse/forks.ts"
import { creators, knockRestricted, knocks, restricted } from "./synapse/joins.ts"
import { Pair } from "./synapse/Pair.ts"
import { fixtureText, recordRoom } from "./synapse/Recording.ts"
import { namesOnA, namesOnB, type People, type Scene } from "./synapse/Scene.ts"

const scenes: ReadonlyArray<Scene> = [
  forks,
  knocks,
  restricted,
  knockRestricted,
  creators,
  unfederated,
  forgedJoins,
  forgeries
]

const fixtures = fileURLToPath(new URL("../../packages/room/test/fixtures/synapse/", import.meta.url))

const print = (text: string) => process.stdout.write(`${text}\n`)

const registerPeople = async ({ a, b }: Pair): Promise<People> => {
  const people = []
  for (const name of namesOnA) people.push([name, await a.person(name)] as const)
  for (const name of namesOnB) people.push([name, await b.person(name)] as const)
  return Object.fromEntries(people) as People
}

const record = async (pair: Pair, people: People, version: number): Promise<void> => {
  const rooms = []
  for (const { except = [], from = 1, name, run, to = 12 } of scenes) {
    if (version < from || version > to || except.includes(version)) continue
    print(`version ${version}: ${name}`)
    const result = await run({ pair, people, version })
    rooms.push(await recordRoom(pair, version, name, result, await people.alice.state(result.room)))
    await pair.heal()
  }
  const text = fixtureText(pair, `Synapse ${Synapse.synapseVersion}`, version, rooms)
  await fs.writeFile(path.join(fixtures, `v${version}.json`), text)
  print(
    `version ${version}: ${rooms.flatMap(({ events }) => events).length} events, ${Math.round(text.length / 1024)} KiB`
  )
}

const main = async (versions: ReadonlyArray<number>): Promise<void> => {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-interop-"))
  const pair = await Pair.start(await Synapse.install(), directory)
  try {
    const people = await registerPeople(pair)
    for (const version of versions) await record(pair, people, version)
  } finally {
    await pair.stop()
    if (process.exitCode === undefined) await fs.rm(directory, { recursive: true, force: true })
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))
const chosen = process.argv.slice(2).map(Number)
await main(chosen.length > 0 ? chosen : Array.from({ length: 12 }, (_, index) => index + 1))
