import { execFile } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const program = fileURLToPath(new URL("../../src/admin/main.ts", import.meta.url))

/** Prints the URL of each module to standard error as it is loaded. */
const printing = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from "node:module"
  registerHooks({
    load: (url, context, next) => {
      process.stderr.write(url + "\\n")
      return next(url, context)
    }
  })
`)}`

/** The modules that `greenroom` loads with these arguments. */
const modulesOf = (args: ReadonlyArray<string>): Promise<ReadonlyArray<string>> =>
  new Promise((resolve, reject) => {
    execFile(process.execPath, ["--import", printing, program, ...args], (error, _stdout, stderr) => {
      if (error === null) resolve(stderr.split("\n").filter((line) => line.startsWith("file:")))
      else reject(error)
    })
  })

/** Modules that only a server needs, and the barrel of Effect. */
const ofServers =
  /effect\/dist\/(index\.js|cluster\/|http-api\/|rpc\/)|packages\/actors\/src\/(sync|federation)\/|packages\/store\/src\/migrations\//

describe("commands of `greenroom`", () => {
  for (const command of ["backup", "restore", "migrate", "user list", "token list", "room list", "report list"]) {
    it(`\`greenroom ${command}\` loads no part of a server, and no migrations`, async () => {
      const modules = await modulesOf([...command.split(" "), "--help"])
      assert.include(modules, pathToFileURL(path.resolve(program)).href)
      assert.deepStrictEqual(
        modules.filter((module) => ofServers.test(module)),
        []
      )
    })
  }

  it("`greenroom --help` loads nothing of Effect", async () => {
    const modules = await modulesOf(["--help"])
    assert.deepStrictEqual(
      modules.filter((module) => module.includes("node_modules")),
      []
    )
  })
})
