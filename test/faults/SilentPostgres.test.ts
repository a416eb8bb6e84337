/** A gateway that is stopped while PostgreSQL does not answer reports this and ends. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import { freePorts } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Exit, Fiber } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { roomOf, sceneOf, succeeded } from "../support/Scene.ts"

/** The main process of PostgreSQL and its children. */
const processesOf = (dataDir: string): ReadonlyArray<number> => {
  const first = Number.parseInt(fs.readFileSync(`${dataDir}/postgres/postmaster.pid`, "utf8"), 10)
  const others = execFileSync("ps", ["-o", "pid=", "--ppid", `${first}`])
    .toString()
    .trim()
    .split(/\s+/)
    .map(Number)
  return [first, ...others]
}

const exists = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Suspends processes that are being ended, until the scope closes; then waits until they have ended. */
const suspended = (pids: ReadonlyArray<number>) =>
  Effect.acquireRelease(
    Effect.sync(() => pids.map((pid) => process.kill(pid, "SIGSTOP"))),
    () =>
      Effect.sync(() => pids.map((pid) => process.kill(pid, "SIGCONT"))).pipe(
        Effect.andThen(
          Effect.repeat(
            Effect.delay(
              Effect.sync(() => pids.some(exists)),
              "20 millis"
            ),
            { while: Boolean }
          )
        )
      )
  )

/** The line on standard error. */
const line = /^greenroom: PostgreSQL does not answer: ended without .* Nothing that was acknowledged is lost$/gm

/** Stops the gateway while one client waits for events and another one sends. `silence` keeps PostgreSQL from answering. */
const assertEnds = Effect.fnUntraced(function* <E, R>(
  gateway: GatewayProcess.GatewayProcess,
  silence: Effect.Effect<unknown, E, R>
) {
  const scene = sceneOf(gateway)
  const [alice, bob] = [yield* scene.register("alice"), yield* scene.register("bob")]
  const room = yield* roomOf(alice, bob)
  const { next_batch } = succeeded(yield* bob.ask("GET", "//_matrix/client/v3/sync")).body
  const wait = `//_matrix/client/v3/sync?since=${next_batch}&timeout=60000`
  const waiting = yield* Effect.forkChild(Effect.exit(bob.ask("GET", wait)))
  succeeded(yield* alice.ask("GET", `/rooms/${encodeURIComponent(room)}/initialSync`))
  yield* silence
  const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/unanswered`
  const sending = yield* Effect.forkChild(
    Effect.exit(alice.ask("PUT", path, { msgtype: "m.text", body: "is anybody there?" }))
  )
  assert.strictEqual(yield* gateway.stop, 0, gateway.output())
  assert.strictEqual(gateway.output().match(line)?.length, 1, gateway.output())
  // Without the database, requests fail with status 503 or with the connection.
  for (const request of [waiting, sending]) {
    const exit = yield* Fiber.join(request)
    if (Exit.isSuccess(exit)) assert.strictEqual(exit.value.status, 503)
  }
})

describe("A gateway that is stopped while PostgreSQL does not answer", () => {
  it.live(
    "a gateway exits with 0 and one line when its own PostgreSQL is suspended (SIGSTOP)",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const gateway = yield* GatewayProcess.start({ dataDir })
        yield* assertEnds(
          gateway,
          Effect.suspend(() => suspended(processesOf(dataDir)))
        )
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a node of a cluster exits with 0 and one line when PostgreSQL is unreachable",
    () =>
      Effect.gen(function* () {
        const database = yield* CuttableDatabase.make(yield* TestDatabase.emptyUrl)
        const [port] = yield* freePorts(1)
        const gateway = yield* GatewayProcess.start({
          dataDir: yield* GatewayProcess.temporaryDirectory,
          databaseUrl: database.url,
          environment: { GREENROOM_CLUSTER: "true", GREENROOM_CLUSTER_PORT: `${port}` }
        })
        yield* assertEnds(gateway, database.cut)
      }).pipe(Effect.scoped),
    120_000
  )
})
