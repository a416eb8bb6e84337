/** PostgreSQL does not answer when the gateway is stopped: it says what it could not do, and ends. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Exit, Fiber } from "effect"
import { freePorts } from "../support/FreePort.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { roomOf, sceneOf, succeeded } from "../support/Scene.ts"

/** The processes of a PostgreSQL: the one that starts the others, and those. */
const processesOf = (dataDir: string): ReadonlyArray<number> => {
  const first = Number.parseInt(fs.readFileSync(`${dataDir}/postgres/postmaster.pid`, "utf8"), 10)
  const others = execFileSync("ps", ["-o", "pid=", "--ppid", `${first}`])
    .toString()
    .trim()
    .split(/\s+/)
    .map(Number)
  return [first, ...others]
}

const isThere = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Stops the processes with SIGSTOP until the scope closes, and waits then until they have ended, which they were told to. */
const stopped = (pids: ReadonlyArray<number>) =>
  Effect.acquireRelease(
    Effect.sync(() => pids.map((pid) => process.kill(pid, "SIGSTOP"))),
    () =>
      Effect.sync(() => pids.map((pid) => process.kill(pid, "SIGCONT"))).pipe(
        Effect.andThen(
          Effect.repeat(
            Effect.delay(
              Effect.sync(() => pids.some(isThere)),
              "20 millis"
            ),
            { while: Boolean }
          )
        )
      )
  )

/** The line on standard error. */
const line = /^greenroom: PostgreSQL does not answer: ended without .* Nothing that was acknowledged is lost$/gm

/** Has the gateway stop while a client waits for events and another one sends. `silence` makes PostgreSQL answer nothing. */
const mustEnd = Effect.fnUntraced(function* <E, R>(
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
  // A /sync is answered with what the database has: 503, or nothing.
  for (const asked of [waiting, sending]) {
    const exit = yield* Fiber.join(asked)
    if (Exit.isSuccess(exit)) assert.strictEqual(exit.value.status, 503)
  }
})

describe("A gateway that is stopped while PostgreSQL does not answer", () => {
  it.live(
    "ends with 0 and one line where the PostgreSQL that it started is stopped (SIGSTOP)",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const gateway = yield* GatewayProcess.start({ dataDir })
        yield* mustEnd(
          gateway,
          Effect.suspend(() => stopped(processesOf(dataDir)))
        )
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "does so as a node of a cluster whose PostgreSQL is gone",
    () =>
      Effect.gen(function* () {
        const database = yield* CuttableDatabase.make(yield* TestDatabase.emptyUrl)
        const [port] = yield* freePorts(1)
        const gateway = yield* GatewayProcess.start({
          dataDir: yield* GatewayProcess.temporaryDirectory,
          databaseUrl: database.url,
          environment: { GREENROOM_CLUSTER: "true", GREENROOM_CLUSTER_PORT: `${port}` }
        })
        yield* mustEnd(gateway, database.cut)
      }).pipe(Effect.scoped),
    120_000
  )
})
