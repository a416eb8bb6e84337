/**
 * PostgreSQL crashes under a running gateway. Its logged tables stay; typing and presence are lost with the unlogged ones, and clients
 * learn that nobody types and receive presence anew.
 */
import * as fs from "node:fs/promises"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { waitFor } from "../support/Polling.ts"
import { roomOf, sceneOf, succeeded } from "../support/Scene.ts"

const inPath = encodeURIComponent

/** The main process of PostgreSQL. */
const postmaster = (dataDir: string) =>
  Effect.promise(async () =>
    Number.parseInt(await fs.readFile(`${dataDir}/postgres/postmaster.pid`, { encoding: "utf8" }), 10)
  )

describe("A crash of PostgreSQL", () => {
  it.live(
    "a crash of PostgreSQL ends typing and publishes presence anew, for clients with tokens from before",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const gateway = yield* GatewayProcess.start({ dataDir })
        const { register } = sceneOf(gateway)
        const [alice, bob] = [yield* register("alice"), yield* register("bob")]
        const room = yield* roomOf(alice, bob)
        const start = succeeded(yield* alice.ask("GET", "/events?timeout=0")).body.end
        const see = (from: string, matches: (event: Body) => boolean) =>
          waitFor((path) => alice.ask("GET", path), from, matches)
        const isTypingOf =
          (...users: ReadonlyArray<string>) =>
          (event: Body) =>
            event.type === "m.typing" && JSON.stringify(event.content.user_ids) === JSON.stringify(users)
        const isBusy = (event: Body) =>
          event.type === "m.presence" && event.content.user_id === bob.userId && event.content.status_msg === "busy"
        succeeded(
          yield* bob.ask("PUT", `/presence/${inPath(bob.userId)}/status`, {
            presence: "unavailable",
            status_msg: "busy"
          })
        )
        const typing = { typing: true, timeout: 120_000 }
        succeeded(yield* bob.ask("PUT", `/rooms/${inPath(room)}/typing/${inPath(bob.userId)}`, typing))
        const seen = yield* see(start, isBusy)
        const before = yield* see(start, isTypingOf(bob.userId))
        const from = [seen.end, before.end].sort((a, b) => (a < b ? 1 : -1))[0]!

        process.kill(yield* postmaster(dataDir), "SIGKILL")
        const sent = Effect.gen(function* () {
          const answer = yield* bob.ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/again`, {
            msgtype: "m.text",
            body: "still here"
          })
          if (answer.status !== 200) return yield* Effect.fail(answer.text)
        })
        yield* Effect.retry(sent, { schedule: Schedule.spaced("200 millis"), times: 300 })

        yield* see(from, (event) => event.type === "m.room.message" && event.content.body === "still here")
        yield* see(from, isTypingOf())
        yield* see(from, isBusy)
        const { body } = succeeded(yield* alice.ask("GET", `/presence/${inPath(bob.userId)}/status`))
        assert.deepInclude(body, { presence: "unavailable", status_msg: "busy" })
      }).pipe(Effect.scoped),
    180_000
  )
})
