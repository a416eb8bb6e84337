/** A bridge of the application service class of matrix-bot-sdk (`support/botSdkBridge.mjs`), installed for the tests of clients. */
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as delay } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Exit, Scope } from "effect"
import { installJavaScriptClients } from "../clients/Flow.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { killed, Person } from "./support/Bridges.ts"

const program = fileURLToPath(new URL("./support/botSdkBridge.mjs", import.meta.url))

interface Line {
  readonly ready?: boolean
  readonly channel?: string
  readonly sender?: string
  readonly text?: string
  readonly typing?: ReadonlyArray<string>
}

/** The bridge, and what it delivered to its network. */
const startBridge = Effect.fnUntraced(function* (settings: string) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [program, settings], { stdio: ["pipe", "pipe", "inherit"] })),
    killed
  )
  const lines: Array<Line> = []
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) lines.push(JSON.parse(line) as Line)
  })
  const receives = (passes: (line: Line) => boolean) =>
    Effect.promise(async () => {
      while (!lines.some(passes)) await delay(50)
      return lines.filter(passes)
    })
  yield* receives(({ ready }) => ready === true)
  return {
    send: (user: string, text: string) => {
      child.stdin.write(`${JSON.stringify({ channel: "tea", user, text })}\n`)
    },
    receives
  }
})

describe("a bridge of matrix-bot-sdk", () => {
  it.live(
    "a bridge creates rooms by their aliases, and delivers each message and typing once, also after the server was killed",
    () =>
      Effect.gen(function* () {
        yield* Effect.promise(installJavaScriptClients)
        const directory = yield* GatewayProcess.temporaryDirectory
        const [bridgePort, port] = [yield* freePort, yield* freePort]
        const url = `http://127.0.0.1:${port}`
        const registration = {
          id: "net",
          url: `http://127.0.0.1:${bridgePort}`,
          as_token: "bridge-token",
          hs_token: "server-token",
          sender_localpart: "netbot",
          namespaces: {
            users: [{ exclusive: true, regex: "@net_.*:green.test" }],
            aliases: [{ exclusive: true, regex: "#net_.*:green.test" }],
            rooms: []
          },
          receive_ephemeral: true
        }
        const [file, settings] = [path.join(directory, "net.yaml"), path.join(directory, "settings.json")]
        yield* Effect.promise(async () => {
          // YAML contains JSON.
          await fs.writeFile(file, JSON.stringify(registration))
          await fs.writeFile(
            settings,
            JSON.stringify({
              registration,
              port: bridgePort,
              homeserverName: "green.test",
              homeserverUrl: url,
              storage: path.join(directory, "bridge.json")
            })
          )
        })
        const startServer = GatewayProcess.start({
          dataDir: path.join(directory, "data"),
          port,
          environment: { GREENROOM_APP_SERVICE_FILES: file }
        })
        const server = yield* startServer
        const running = yield* Scope.make()
        const bridge = yield* Scope.provide(startBridge(settings), running)
        const alice = yield* Effect.promise(() => Person.register(url, "alice"))

        const joined = yield* Effect.promise(() =>
          alice.call("POST", `/join/${encodeURIComponent("#net_tea:green.test")}`)
        )
        const room = joined.room_id! as string
        bridge.send("bob", "good morning")
        const [message] = yield* alice.receives("good morning")
        assert.deepInclude(message, { room, sender: "@net_bob:green.test" })
        yield* alice.joinOf("@net_bob:green.test")
        const profile = yield* Effect.promise(() => alice.call("GET", "/profile/@net_bob:green.test"))
        assert.isString(profile.displayname)

        yield* Effect.promise(() =>
          alice.call("PUT", `/rooms/${encodeURIComponent(room)}/typing/@alice:green.test`, {
            typing: true,
            timeout: 30_000
          })
        )
        yield* bridge.receives(({ channel, typing }) => channel === "tea" && typing?.[0] === "@alice:green.test")
        yield* alice.send(room, "with milk, please")
        const delivered = yield* bridge.receives(({ text }) => text === "with milk, please")
        assert.deepStrictEqual(delivered, [{ channel: "tea", sender: "@alice:green.test", text: "with milk, please" }])

        // A message to the stopped bridge is delivered after the server was killed, followed by another one.
        yield* Scope.close(running, Exit.void)
        yield* alice.send(room, "anybody there?")
        yield* server.kill
        yield* startServer
        const again = yield* startBridge(settings)
        yield* alice.send(room, "and now?")
        yield* again.receives(({ text }) => text === "and now?")
        const texts = (yield* again.receives(({ text }) => text !== undefined)).map(({ text }) => text)
        assert.deepStrictEqual(texts, ["anybody there?", "and now?"])
      }).pipe(Effect.scoped),
    180_000
  )
})
