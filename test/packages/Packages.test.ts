import { execFile, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted, Schedule } from "effect"

const run = promisify(execFile)
const repository = path.resolve(import.meta.dirname, "../..")
const modules = path.join(repository, "node_modules")

/** Copies the sources, with links to the modules of this repository, so that building and packing change nothing here. */
const copySources = async (directory: string) => {
  const { stdout } = await run("git", ["ls-files", "packages", "apps", "build", "*.json", "LICENSE"], {
    cwd: repository
  })
  for (const file of stdout.split("\n")) {
    if (/^(packages|apps)\/[^/]+\/(test|examples)\//.test(file) || file === "") continue
    await fs.mkdir(path.dirname(path.join(directory, file)), { recursive: true })
    await fs.copyFile(path.join(repository, file), path.join(directory, file))
  }
  await fs.mkdir(path.join(directory, "node_modules"))
  for (const name of await fs.readdir(modules)) {
    if (name === ".cache" || name === "@greenroom") continue
    await fs.symlink(path.join(modules, name), path.join(directory, "node_modules", name))
  }
  await fs.cp(path.join(modules, "@greenroom"), path.join(directory, "node_modules/@greenroom"), {
    recursive: true,
    verbatimSymlinks: true
  })
}

/** The build commands of the Dockerfile, except `npm ci` and `npm prune`: the copy has the modules of this repository. */
const stepsOfImage = (dockerfile: string): ReadonlyArray<string> => {
  const build = dockerfile.slice(0, dockerfile.lastIndexOf("\nFROM "))
  const steps = [...build.replaceAll("\\\n", "").matchAll(/^RUN (.*)$/gm)].map(([, step = ""]) => step)
  return steps.filter((step) => !/npm (ci|prune)/.test(step))
}

/** The value of an instruction of the Dockerfile that is a JSON array. */
const commandOf = (dockerfile: string, instruction: RegExp): ReadonlyArray<string> => {
  const [, command = ""] = instruction.exec(dockerfile.replaceAll("\\\n", "")) ?? []
  return JSON.parse(command)
}

const entries = ["protocol", "room", "store", "actors", "gateway", "client"]

/** The sources are built and packed in a copy, and an empty project installs the tarballs. */
describe("Packages", { timeout: 600_000 }, () => {
  let root: string
  const project = () => path.join(root, "project")
  const inProject = (program: string, args: ReadonlyArray<string>) => run(program, args, { cwd: project() })

  beforeAll(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-packages-"))
    // PostgreSQL, which does not run as root, must be able to walk through it.
    await fs.chmod(root, 0o711)
    const sources = path.join(root, "sources")
    await copySources(sources)
    const [build = "", ...steps] = stepsOfImage(await fs.readFile(path.join(repository, "Dockerfile"), "utf8"))
    await run("sh", ["-c", build], { cwd: sources })
    const image = path.join(root, "image")
    await fs.cp(sources, image, { recursive: true, verbatimSymlinks: true })
    for (const step of steps) await run("sh", ["-c", step], { cwd: image })
    await fs.mkdir(project())
    await run("npm", ["pack", "--workspaces", "--pack-destination", project()], { cwd: sources })
    const tarballs = (await fs.readdir(project())).filter((file) => file.endsWith(".tgz"))
    assert.strictEqual(tarballs.length, 8)
    await fs.writeFile(path.join(project(), "package.json"), '{ "name": "project", "private": true, "type": "module" }')
    await inProject("npm", [
      "install",
      "--no-audit",
      "--no-fund",
      "--prefer-offline",
      ...tarballs.map((file) => `./${file}`)
    ])
    await fs.copyFile(path.join(import.meta.dirname, "program.js"), path.join(project(), "program.js"))
    await fs.copyFile(path.join(import.meta.dirname, "program.js"), path.join(project(), "program.ts"))
  }, 600_000)

  afterAll(() => fs.rm(root, { recursive: true, force: true }))

  it("npm pack restores the package.json of the repository", async () => {
    for (const name of ["packages/actors", "apps/gateway"]) {
      const [before, after] = await Promise.all(
        [repository, path.join(root, "sources")].map((directory) =>
          fs.readFile(path.join(directory, name, "package.json"), "utf8")
        )
      )
      assert.strictEqual(after, before)
    }
  })

  it.live("the image's command starts the server from the built files, and its health check passes", () =>
    Effect.gen(function* () {
      const dockerfile = yield* Effect.promise(() => fs.readFile(path.join(repository, "Dockerfile"), "utf8"))
      const [program = "", ...args] = commandOf(dockerfile, /^ENTRYPOINT (.*)$/m)
      const [check = "", ...checkArgs] = commandOf(dockerfile, /CMD (\[.*)$/m)
      assert.deepStrictEqual([program, check], ["node", "node"])
      const port = yield* freePort
      const environment = { PATH: process.env.PATH, GREENROOM_PORT: `${port}`, GREENROOM_FEDERATION_PORT: "0" }
      const database = { GREENROOM_DATABASE_URL: Redacted.value(yield* TestDatabase.url), GREENROOM_DATA_DIR: root }
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, args, {
            cwd: path.join(root, "image"),
            stdio: "inherit",
            env: { ...environment, ...database, NODE_ENV: "production" }
          })
        ),
        (child) =>
          Effect.promise(() => {
            const ended = new Promise((resolve) => child.once("exit", resolve))
            child.kill("SIGTERM")
            return ended
          })
      )
      const healthy = checkArgs.map((argument) => argument.replace("8008", `${port}`))
      yield* Effect.tryPromise(() => run(process.execPath, healthy)).pipe(Effect.retry(Schedule.spaced("100 millis")))
    })
  )

  it("a program in plain JavaScript runs a home server with its embedded database", async () => {
    const { stdout } = await inProject(process.execPath, ["program.js"])
    assert.deepStrictEqual(JSON.parse(stdout), { msgtype: "m.text", body: 'key "' })
  })

  it("the same program and the declarations of all packages pass the type check", async () => {
    const imports = entries.map((name) => `export * as ${name} from "@greenroom/${name}"\n`)
    await fs.writeFile(path.join(project(), "entries.ts"), imports.join(""))
    const options = { module: "nodenext", target: "es2024", strict: true, noEmit: true, types: ["node"] }
    await fs.writeFile(
      path.join(project(), "tsconfig.json"),
      JSON.stringify({
        compilerOptions: { ...options, typeRoots: [path.join(modules, "@types")] },
        files: ["program.ts", "entries.ts"]
      })
    )
    await inProject(path.join(modules, ".bin/tsc"), ["-p", "."])
  })

  it("every package has one entry point, and its internal modules cannot be imported", async () => {
    const names = entries.map((name) => `@greenroom/${name}`)
    const program = `
      for (const name of ${JSON.stringify(names)}) console.log(name, Object.keys(await import(name)).length > 0)
      await import("@greenroom/actors/room/internal/RoomRequests").catch((error) => console.log(error.code))`
    const { stdout } = await inProject(process.execPath, ["--input-type=module", "--eval", program])
    assert.deepStrictEqual(stdout.trim().split("\n"), [
      ...names.map((name) => `${name} true`),
      "ERR_PACKAGE_PATH_NOT_EXPORTED"
    ])
  })

  it("the installed packages share one version of effect, and take less than 300 MB", async () => {
    const { stdout } = await inProject("find", [".", "-path", "*/node_modules/effect/package.json"])
    assert.deepStrictEqual(stdout.trim().split("\n"), ["./node_modules/effect/package.json"])
    const size = await inProject("du", ["-sm", "node_modules"])
    assert.isBelow(Number.parseInt(size.stdout, 10), 300)
  })

  it("the commands are installed", async () => {
    const bin = path.join(project(), "node_modules/.bin")
    for (const name of ["greenroom", "greenroom-identity"]) {
      const { stdout } = await inProject(path.join(bin, name), ["--help"])
      assert.match(stdout, /usage/i, name)
    }
  })
})
