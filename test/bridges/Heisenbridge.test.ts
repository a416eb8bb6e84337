/**
 * heisenbridge from PyPI, an application service, bridges a room and a channel of the IRC server ngircd. Without Python and ngircd, which
 * `.ci/run` installs, the test is skipped.
 */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { connect } from "node:net"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { environmentDirectory, installPython } from "../support/Synapse.ts"
import { Person, program, type SyncedEvent } from "./support/Bridges.ts"

const ngircd = "/usr/sbin/ngircd"
const hasPython = await promisify(execFile)("python3", ["-m", "venv", "--help"]).then(
  () => true,
  () => false
)

const ircServer = Effect.fnUntraced(function* (directory: string) {
  const port = yield* freePort
  const config = path.join(directory, "ngircd.conf")
  yield* Effect.promise(() =>
    fs.writeFile(
      config,
      `[Global]\nName = irc.green.test\nInfo = test\nListen = 127.0.0.1\nPorts = ${port}\nServerUID = 65534\n` +
        "ServerGID = 65534\n[Options]\nDNS = no\nIdent = no\nPAM = no\n"
    )
  )
  yield* program(ngircd, ["-n", "-f", config], directory)
  return port
})

/** A user of IRC. */
const ircClient = Effect.fnUntraced(function* (port: number, nick: string, channel: string) {
  let received = ""
  const socket = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      for (;;) {
        const attempt = connect(port, "127.0.0.1")
        const isConnected = await new Promise<boolean>((resolve) => {
          attempt.once("connect", () => resolve(true))
          attempt.once("error", () => resolve(false))
        })
        if (isConnected) return attempt
        await delay(100)
      }
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  socket.on("data", (chunk) => {
    received += chunk.toString()
    for (const [, token] of chunk.toString().matchAll(/^PING (.*)$/gm)) socket.write(`PONG ${token}\r\n`)
  })
  socket.write(`NICK ${nick}\r\nUSER ${nick} 0 * :${nick}\r\nJOIN ${channel}\r\n`)
  return {
    send: (text: string) => socket.write(`PRIVMSG ${channel} :${text}\r\n`),
    /** Waits for the text. Returns how often it was received. */
    receives: (text: string) =>
      Effect.promise(async () => {
        while (!received.includes(text)) await delay(50)
        return received.split(text).length - 1
      })
  }
})

describe.skipIf(!hasPython || !existsSync(ngircd))("a bridge to IRC", () => {
  it.live(
    "a bridge to IRC delivers each message once, in both directions, also after the server was killed",
    () =>
      Effect.gen(function* () {
        const directory = yield* GatewayProcess.temporaryDirectory
        const python = yield* Effect.promise(() => installPython("heisenbridge", ["heisenbridge==1.15.4"]))
        const bridge = path.join(environmentDirectory("heisenbridge"), "bin", "heisenbridge")
        const [bridgePort, port, ircPort] = yield* Effect.all([freePort, freePort, ircServer(directory)])
        assert.isTrue(existsSync(python))
        const registration = path.join(directory, "heisenbridge.yaml")
        const url = `http://127.0.0.1:${port}`
        const listen = ["-l", "127.0.0.1", "-p", `${bridgePort}`]
        yield* Effect.promise(() =>
          promisify(execFile)(bridge, ["-c", registration, "--generate", ...listen, url], { cwd: directory })
        )
        const start = GatewayProcess.start({
          dataDir: path.join(directory, "data"),
          port,
          environment: { GREENROOM_APP_SERVICE_FILES: registration }
        })
        const first = yield* start
        const alice = yield* Effect.promise(() => Person.register(url, "alice"))
        yield* program(bridge, ["-c", registration, "-o", "@alice:green.test", url], directory)

        const [{ room: control }] = (yield* alice.receives("Following commands are supported")) as [SyncedEvent]
        yield* alice.send(control, "ADDNETWORK local")
        yield* alice.receives("Network added")
        yield* alice.send(control, `ADDSERVER local 127.0.0.1 ${ircPort}`)
        yield* alice.receives("Server added")
        yield* alice.send(control, "OPEN local")
        const [{ room: network }] = (yield* alice.receives("Welcome to the network room")) as [SyncedEvent]
        yield* alice.send(network, "CONNECT")
        yield* alice.receives("Capabilities wanted")
        const bob = yield* ircClient(ircPort, "bob", "#tea")
        yield* bob.receives("End of NAMES list")
        yield* alice.send(network, "JOIN #tea")
        const [{ room: channel }] = (yield* alice.receives("Joined #tea")) as [SyncedEvent]

        // The bridge creates a Matrix user for a user of IRC with their first message.
        bob.send("good morning")
        yield* alice.receives("good morning")
        yield* alice.joinOf("@irc_local_bob:green.test")
        bob.send("the kettle is on")
        const [message] = (yield* alice.receives("the kettle is on")) as [SyncedEvent]
        assert.strictEqual(message.sender, "@irc_local_bob:green.test")
        yield* alice.send(channel, "with milk, please")
        assert.strictEqual(yield* bob.receives("with milk, please"), 1)

        yield* first.kill
        yield* start
        yield* alice.send(channel, "back again")
        assert.strictEqual(yield* bob.receives("back again"), 1)
        bob.send("another cup?")
        assert.lengthOf(yield* alice.receives("another cup?"), 1)
        assert.strictEqual(yield* bob.receives("with milk, please"), 1)
      }).pipe(Effect.scoped),
    180_000
  )
})
