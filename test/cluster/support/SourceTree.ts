/**
 * An earlier or later version of the program, from other sources than this checkout. The tree is inside the repository, so that Node finds
 * the dependencies, which both versions use.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

/** The repository. */
export const root = fileURLToPath(new URL("../../..", import.meta.url))

/** Links the packages of the tree, so that its sources import them. */
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

/** The file of the gateway in a tree that `fill` writes. The tree is removed with the scope. */
export const make = (fill: (directory: string) => Promise<void>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => build(fill)),
      (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
    ),
    (directory) => path.join(directory, "apps/gateway/src/main.ts")
  )
