/** The program with its embedded PostgreSQL, which starts and ends with it. */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { type Person, roomOf, sceneOf } from "../support/Scene.ts"

/** The processes whose command line contains the path of the directory, on systems that have `/proc`. */
const processesOf = (directory: string) =>
  Effect.promise(async () => {
    const ids = (await fs.readdir("/proc").catch(() => [])).filter((name) => /^[0-9]+$/.test(name))
    const commands = await Promise.all(ids.map((id) => fs.readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "")))
    return commands.filter((command) => command.includes(directory))
  })

describe("EmbeddedDatabase", () => {
  it.live(
    "the database ends with the server, and the next start has all data",
    () =>
      Effect.gen(function* () {
        const dataDir = path.join(yield* GatewayProcess.temporaryDirectory, "data")
        const first = yield* GatewayProcess.start({ dataDir })
        const scene = sceneOf(first)
        const alice: Person = yield* scene.register("alice")
        const room = encodeURIComponent(yield* roomOf(alice))
        yield* alice.ask("PUT", `/rooms/${room}/send/m.room.message/1`, { msgtype: "m.text", body: "Good night" })
        if (process.platform === "linux") assert.isNotEmpty(yield* processesOf(dataDir))
        assert.strictEqual(yield* first.stop, 0)
        assert.deepStrictEqual(yield* processesOf(dataDir), [])

        const second = sceneOf(yield* GatewayProcess.start({ dataDir }))
        const again = second.person({ user_id: alice.userId, access_token: alice.token })
        const { body: page } = yield* again.ask("GET", `/rooms/${room}/messages?limit=1`)
        assert.strictEqual(page.chunk[0].content.body, "Good night")
      }),
    180_000
  )
})
