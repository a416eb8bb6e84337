/**
 * The credentials for calls, with coturn as TURN server and its client. `.ci/run` installs coturn; the test is skipped without
 * it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect, Redacted } from "effect"
import { askToday, gatewayWith, register } from "../TestGateway.ts"

const programs = { server: "/usr/bin/turnserver", client: "/usr/bin/turnutils_uclient" }

const secret = "a secret of the two servers"

const end = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

const startTurnServer = Effect.fnUntraced(function* (port: number) {
  const path = yield* temporaryDirectory("turn")
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        programs.server,
        [
          "-n",
          "--listening-ip=127.0.0.1",
          "--relay-ip=127.0.0.1",
          `--listening-port=${port}`,
          "--use-auth-secret",
          `--static-auth-secret=${secret}`,
          "--realm=green.test",
          "--no-tls",
          "--no-dtls",
          "--no-cli",
          "--allow-loopback-peers",
          "--log-file=stdout",
          `--pidfile=${path}/pid`,
          `--userdb=${path}/db`
        ],
        { cwd: path, stdio: "ignore" }
      )
    ),
    end
  )
})

/** Whether the TURN server relays messages between two clients with these credentials. */
const relays = (port: number, username: string, password: string) =>
  Effect.callback<boolean>((resume) => {
    const options = ["-y", "-n", "1", "-m", "1", "-u", username, "-w", password, "-p", String(port), "127.0.0.1"]
    const child = spawn(programs.client, options, { stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text
    })
    child.once("close", (code) => resume(Effect.succeed(code === 0 && out.includes("Total lost packets 0 "))))
  })

describe.skipIf(!existsSync(programs.server) || !existsSync(programs.client))("coturn", () => {
  it.live(
    "allocates a relay with the credentials of /voip/turnServer, and none with others",
    () =>
      Effect.gen(function* () {
        const port = yield* freePort
        yield* startTurnServer(port)
        const uris = [`turn:127.0.0.1:${port}?transport=udp`]
        yield* Effect.gen(function* () {
          const alice = yield* register("alice")
          const { body } = yield* askToday("GET", "/v3/voip/turnServer", { token: alice.token })
          assert.deepStrictEqual(body.uris, uris)
          const [username, password] = [body.username as string, body.password as string]
          yield* Effect.repeat(relays(port, username, password), { until: (works) => works })
          assert.isFalse(yield* relays(port, username, "made up"))
          assert.isFalse(yield* relays(port, username.replace("alice", "bob"), password))
        }).pipe(Effect.provide(gatewayWith({}, { turn: { uris, sharedSecret: Redacted.make(secret) } })))
      }).pipe(Effect.scoped),
    60_000
  )
})
