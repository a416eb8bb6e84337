/**
 * Before `npm pack` and `npm publish` of a package: builds it, and gives its package.json the fields that hold outside this repository.
 *
 * In the repository the `exports` lead to the sources, which Node runs as they are; in `node_modules` it does not strip types. `publishConfig`
 * has the `exports` and `bin` of the built package (as pnpm reads it). `postpack.ts` restores the file.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { published, saved } from "./published.ts"

execFileSync("tsc", ["-b", "tsconfig.build.json"], { stdio: ["ignore", 2, 2] })
if (!fs.existsSync(saved)) fs.copyFileSync("package.json", saved)
fs.writeFileSync("package.json", `${JSON.stringify(published(saved), null, 2)}\n`)
fs.copyFileSync("../../LICENSE", "LICENSE")
