/**
 * Keeps compiled modules in the home directory of the account, so that the next start of a program needs about half the time. Without
 * a home directory that can be written to there is no cache. `NODE_COMPILE_CACHE` and `NODE_DISABLE_COMPILE_CACHE` of Node take precedence.
 *
 * Call it before other modules are loaded, so import those afterwards by `import()`. Imports nothing else; on an old Node, which
 * has no such cache, it loads too, so that `NodeVersion` can report the version.
 */
import * as nodeModule from "node:module"
import { homedir } from "node:os"
import { join } from "node:path"

/** The cache is not in the directory for temporary files: another account could put code there. */
export const useCompileCache = (): void => {
  try {
    nodeModule.enableCompileCache(join(homedir(), ".cache", "greenroom"))
  } catch {
    // An account without a home directory.
  }
}
