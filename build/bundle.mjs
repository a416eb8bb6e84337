/**
 * Bundles the programs, with their dependencies on Effect and on our packages, into a few files of JavaScript without comments, as they run
 * on a server. V8 keeps the source of what is loaded: the gateway takes 35 MB less at rest than from the sources (`docs/benchmarks.md`).
 *
 * `node build/bundle.mjs DIRECTORY` writes the bundle there. `npm ci` calls it without a directory: `run.mjs` finds the bundle then.
 *
 * JavaScript, because Node would load its type stripper to read it.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** The programs that people start, by the name of their script in package.json. */
export const programs = {
  start: "apps/gateway/src/main.ts",
  greenroom: "apps/gateway/src/admin/main.ts",
  identity: "apps/identity/src/main.ts"
}

/** Programs that others start as processes of their own, from the folder of the file that starts them. */
const children = { thumbnailProgram: "packages/actors/src/media/internal/thumbnailProgram.ts" }

/** The mail templates of the identity server, which it reads from beside the folder of its program. */
const templates = "apps/identity/templates"

const isBundled = (specifier) => /^(effect|@effect|@greenroom)\/|^(effect)$|^[./]/.test(specifier)

/** Writes the bundle. Its programs are in the folder `bin`. */
const write = async (directory) => {
  fs.mkdirSync(directory, { recursive: true })
  const { rolldown } = await import("rolldown")
  const bundle = await rolldown({
    cwd: root,
    platform: "node",
    input: { ...programs, ...children },
    external: (specifier) => !isBundled(specifier)
  })
  await bundle.write({
    dir: path.join(directory, "bin"),
    comments: false,
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js"
  })
  fs.cpSync(path.join(root, templates), path.join(directory, "templates"), { recursive: true })
  fs.writeFileSync(path.join(directory, "package.json"), '{ "type": "module" }\n')
}

const bundles = path.join(root, "node_modules/.cache/greenroom")

/** Bundles of earlier sources stay, since a running server loads parts of its bundle when they are needed. */
const keptBundles = 5

const removeOldBundles = () => {
  const all = fs.readdirSync(bundles).map((name) => path.join(bundles, name))
  // Another process may write and remove bundles meanwhile.
  const age = (directory) => fs.statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? 0
  for (const directory of all.sort((a, b) => age(b) - age(a)).slice(keptBundles))
    fs.rmSync(directory, { recursive: true, force: true })
}

/** All that a bundle is made of, told by sizes and times of change: reading it would take longer. */
const sourceFiles = () => {
  const folders = ["packages", "apps"].flatMap((group) =>
    fs.readdirSync(path.join(root, group)).map((name) => path.join(root, group, name, "src"))
  )
  const files = [...folders, path.join(root, templates)].flatMap((folder) =>
    fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name))
  )
  return [...files.sort(), path.join(root, "package-lock.json"), fileURLToPath(import.meta.url)]
}

const hashOfSources = () => {
  const hash = createHash("sha256")
  for (const file of sourceFiles()) {
    const { mtimeMs, size } = fs.statSync(file)
    hash.update(`${file} ${size} ${mtimeMs}\n`)
  }
  return hash.digest("hex").slice(0, 16)
}

/** The directory of the bundle of the present sources, which is written if it is missing. */
export const currentBundle = async () => {
  const directory = path.join(bundles, hashOfSources())
  if (fs.existsSync(directory)) return directory
  const written = `${directory}.${process.pid}`
  try {
    await write(written)
    fs.renameSync(written, directory)
  } catch (error) {
    fs.rmSync(written, { recursive: true, force: true })
    // Unless another process has written the same bundle meanwhile.
    if (!fs.existsSync(directory)) throw error
  }
  removeOldBundles()
  return directory
}

if (import.meta.main) {
  const [directory] = process.argv.slice(2)
  await (directory === undefined ? currentBundle() : write(path.resolve(directory)))
}
