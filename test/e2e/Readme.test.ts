/** The commands of the documentation, run as they are printed. */
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const root = new URL("../../", import.meta.url)

const commandsOf = (file: string): ReadonlyArray<string> =>
  [...readFileSync(new URL(file, root), "utf8").matchAll(/```sh\n(.*?)```/gs)].map(([, commands]) => commands!)

const documents = [
  "README.md",
  ...readdirSync(new URL("docs", root))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)
]

describe("README", () => {
  it.live("the commands of the first conversation run as printed", () =>
    Effect.gen(function* () {
      const { url } = yield* GatewayProcess.start({
        serverName: ServerName.make("localhost"),
        dataDir: yield* GatewayProcess.temporaryDirectory,
        databaseUrl: yield* TestDatabase.url
      })
      const conversation = commandsOf("README.md").filter((commands) => commands.includes("$API"))
      const script = [...conversation, "wait"].join("\n").replace("http://localhost:8008", url)
      const { stdout } = yield* Effect.promise(() => promisify(execFile)("bash", ["-euo", "pipefail", "-c", script]))
      assert.match(stdout, /^Alice has gr_\S+ and Bob has gr_\S+\nThe room is !\S+:localhost$/m)
      assert.lengthOf(stdout.match(/"body":"More tea\?"/g) ?? [], 2)
    }).pipe(Effect.scoped)
  )

  it("no command of the documentation has a comment, which zsh would take as arguments", () => {
    for (const file of documents) {
      for (const commands of commandsOf(file)) assert.notMatch(commands, /(^|\s)#/m, file)
    }
  })
})
