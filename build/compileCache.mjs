/**
 * Keeps compiled modules, as `packages/gateway/src/CompileCache.ts` does, from the first module on: `node --import` runs this file
 * before the program. It is JavaScript, because Node loads its type stripper, which takes 15 MB of memory, to read a single file of
 * TypeScript. Modules in the cache have no types any more.
 */
import { enableCompileCache } from "node:module"
import { homedir } from "node:os"
import { join } from "node:path"

try {
  enableCompileCache(join(homedir(), ".cache", "greenroom"))
} catch {
  // An account without a home directory.
}
