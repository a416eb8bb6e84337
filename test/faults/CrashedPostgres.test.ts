/**
 * PostgreSQL crashes under a running gateway: what is in its tables stays, who types and who is there is lost with the
 * tables that it does not log. Clients hear that nobody types any more, and of those who are there anew.
 */
import * as fs from "node:fs/promises"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import type { Body } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { waitFor } from "../support/Polling.ts"
import { roomOf, sceneOf, succeeded } from "../support/Scene.ts"

const inPath = encodeURIComponent

/** The process of PostgreSQL that starts the others. */
const postmaster = (dataDir: string) =>
  Effect.promise(async () =>
    Number.parseInt(await fs.readFile(`${dataDir}/postgres/postmaster.pid`, { encoding: "utf8" }), 10)
  )

describe("A crash of PostgreSQL", () => {
  it.live(
    "ends typing and publishes presence anew, to clients with tokens from before it",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const gateway = yield* GatewayProcess.start({ dataDir })
        const { register } = sceneOf(gateway)
        const [alice, bob] = [yield* register("alice"), yield* register("bob")]
        const room = yield* roomOf(alice, bob)
        const start = succeeded(yield* alice.ask("GET", "/events?timeout=0")).body.end
        const see = (from: string, isMeant: (event: Body) => boolean) =>
          waitFor((path) => alice.ask("GET", path), from, isMeant)
        const typists =
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
        const before = yield* see(start, typists(bob.userId))
        const from = [seen.end, before.end].sort((a, b) => (a < b ? 1 : -1))[0]!

        process.kill(yield* postmaster(dataDir), "SIGKILL")
        const sent = Effect.gen(function* () {
          const said = yield* bob.ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/again`, {
            msgtype: "m.text",
            body: "still here"
          })
          if (said.status !== 200) return yield* Effect.fail(said.text)
        })
        yield* Effect.retry(sent, { schedule: Schedule.spaced("200 millis"), times: 300 })

        yield* see(from, (event) => event.type === "m.room.message" && event.content.body === "still here")
        yield* see(from, typists())
        yield* see(from, isBusy)
        const { body } = succeeded(yield* alice.ask("GET", `/presence/${inPath(bob.userId)}/status`))
        assert.deepInclude(body, { presence: "unavailable", status_msg: "busy" })
      }).pipe(Effect.scoped),
    180_000
  )
})
