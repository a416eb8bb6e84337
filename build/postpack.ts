/**
 * After `npm pack` and `npm publish`: restores what `prepack.ts` has changed.
 */
import * as fs from "node:fs"
import { saved } from "./published.ts"

if (fs.existsSync(saved)) fs.renameSync(saved, "package.json")
fs.rmSync("LICENSE", { force: true })
