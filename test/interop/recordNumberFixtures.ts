/**
 * Records `packages/room/test/fixtures/synapse/numbers.json`: how Synapse treats numbers in events.
 *
 *     node test/interop/recordNumberFixtures.ts
 *
 * It needs Python 3 with venv, and installs Synapse from PyPI into `~/.cache/greenroom`.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs/promises"
import { fileURLToPath } from "node:url"
import * as Synapse from "../support/Synapse.ts"

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const python = await Synapse.install()
const fixture = execFileSync(python, ["-B", at("synapse/pdu_numbers.py"), Synapse.synapseVersion])
await fs.writeFile(at("../../packages/room/test/fixtures/synapse/numbers.json"), fixture)
