/**
 * The program from sources that are not those of this checkout: an older or a later version. The tree lies inside of the
 * repository, where Node finds the packages of others, which both versions use.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

/** The repository. */
export const root = fileURLToPath(new URL("../../..", import.meta.url))

/** Makes the packages of the tree those that its own sources import. */
const linkPackages = async (directory: string): Promise<void> => {
  const scope = path.join(directory, "node_modules/@greenroom")
  await fs.mkdir(scope, { recursive: true })
  for (const name of await fs.readdir(path.join(directory, "packages"))) {
    await fs.symlink(path.join(directory, "packages", name), path.join(scope, name))
  }
}

const build = async (fill: (directory: string) => Promise<void>): Promise<string> => {
  await fs.mkdir(path.join(root, "test/results"), { recursive: true })
  const directory = await fs.mkdtemp(path.join(root, "test/results/source-tree-"))
  await fill(directory)
  await linkPackages(directory)
  return directory
}

/** The file of the gateway's program in a tree that `fill` writes. The tree goes with the scope. */
export const make = (fill: (directory: string) => Promise<void>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => build(fill)),
      (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
    ),
    (directory) => path.join(directory, "apps/gateway/src/main.ts")
  )
