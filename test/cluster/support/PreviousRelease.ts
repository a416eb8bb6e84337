/**
 * The program of the release before this one, from the history of the repository. A clone without history (`--depth`) has none.
 */
import { execFile, execFileSync } from "node:child_process"
import { promisify } from "node:util"
import { make as makeTree, root } from "./SourceTree.ts"

/** The last commit of 0.1.0. To be raised with each release, in the order of CHANGELOG.md. */
const commit = "a63bb7093637"

const git = (...words: ReadonlyArray<string>) => ["-C", root, ...words]

/** Why there is no previous release here, in words. Undefined where there is one. */
export const missing: string | undefined = (() => {
  try {
    execFileSync("git", git("cat-file", "-e", `${commit}^{commit}`), { stdio: "ignore" })
    return undefined
  } catch {
    return `commit ${commit} is not in this clone: fetch the whole history for this test`
  }
})()

const run = promisify(execFile)

const fill = async (directory: string): Promise<void> => {
  const file = `${directory}/release.tar`
  await run("git", git("archive", "--output", file, commit, "package.json", "packages", "apps"))
  await run("tar", ["-xf", file, "-C", directory])
}

/** The program's file. It goes with the scope. */
export const make = makeTree(fill)
