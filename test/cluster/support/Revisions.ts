/**
 * The program of an earlier revision, from the history of the repository. A clone without history (`--depth`) has none.
 */
import { execFile, execFileSync } from "node:child_process"
import { promisify } from "node:util"
import type { Effect, Scope } from "effect"
import { make as makeTree, root } from "./SourceTree.ts"

export interface Revision {
  /** The reason why the revision is missing. Undefined if it exists. */
  readonly missing: string | undefined
  /** The file of the program. It is removed with the scope. */
  readonly make: Effect.Effect<string, never, Scope.Scope>
}

const git = (...args: ReadonlyArray<string>) => ["-C", root, ...args]

const run = promisify(execFile)

const revision = (commit: string): Revision => ({
  missing: (() => {
    try {
      execFileSync("git", git("cat-file", "-e", `${commit}^{commit}`), { stdio: "ignore" })
      return undefined
    } catch {
      return `commit ${commit} is not in this clone: fetch the whole history for this test`
    }
  })(),
  make: makeTree(async (directory) => {
    const file = `${directory}/release.tar`
    await run("git", git("archive", "--output", file, commit, "package.json", "packages", "apps"))
    await run("tar", ["-xf", file, "-C", directory])
  })
})

/** The release before this one: the last commit of 0.1.0. Update it with each release, in the order of CHANGELOG.md. */
export const previousRelease = revision("a63bb7093637")

/** The last revision whose nodes send each message on its own, without batches (`Deliveries.ts`). */
export const withoutBatches = revision("f42cb70c2b9e")
