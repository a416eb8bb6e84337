/**
 * `node build/run.mjs start --port 8008` runs a program of `bundle.mjs`, here the gateway, from the bundle of the present sources.
 * Where no bundle can be written, it says so and runs the sources.
 */

import { enableCompileCache } from "node:module"
import { homedir } from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { currentBundle, programs } from "./bundle.mjs"

const [name, ...args] = process.argv.slice(2)

const bundled = async () => {
  const bundle = await currentBundle()
  return { file: path.join(bundle, "bin", `${name}.js`), compiled: path.join(bundle, "compiled") }
}

const sources = (error) => {
  console.error(`No bundle of the programs could be written, so the sources run: ${error.message}`)
  const file = fileURLToPath(new URL(`../${programs[name]}`, import.meta.url))
  return { file, compiled: path.join(homedir(), ".cache", "greenroom") }
}

const { compiled, file } = await bundled().catch(sources)
// Compiled modules go with their bundle. If this account cannot write there, the program chooses another directory (`CompileCache.ts`).
process.env.NODE_COMPILE_CACHE ??= compiled
enableCompileCache()
process.argv = [process.execPath, file, ...args]
await import(pathToFileURL(file).href)
