/**
 * A bridge that others wrote, as an application service: heisenbridge from PyPI, between a room and a channel of ngircd, a
 * real IRC server. Python and ngircd are installed by `.ci/run`; without them the test is skipped.
 */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import { connect } from "node:net"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { freePort } from "../support/FreePort.ts"
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

/** A person on IRC. */
const ircClient = Effect.fnUntraced(function* (port: number, nick: string, channel: string) {
  let heard = ""
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
    heard += chunk.toString()
    for (const [, token] of chunk.toString().matchAll(/^PING (.*)$/gm)) socket.write(`PONG ${token}\r\n`)
  })
  socket.write(`NICK ${nick}\r\nUSER ${nick} 0 * :${nick}\r\nJOIN ${channel}\r\n`)
  return {
    say: (text: string) => socket.write(`PRIVMSG ${channel} :${text}\r\n`),
    hears: (text: string) =>
      Effect.promise(async () => {
        while (!heard.includes(text)) await delay(50)
        return heard.split(text).length - 1
      })
  }
})

describe.skipIf(!hasPython || !existsSync(ngircd))("a bridge to IRC", () => {
  it.live(
    "messages go both ways, once each, also after the server was killed",
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

        const [{ room: control }] = (yield* alice.sees("Following commands are supported")) as [SyncedEvent]
        yield* alice.say(control, "ADDNETWORK local")
        yield* alice.sees("Network added")
        yield* alice.say(control, `ADDSERVER local 127.0.0.1 ${ircPort}`)
        yield* alice.sees("Server added")
        yield* alice.say(control, "OPEN local")
        const [{ room: network }] = (yield* alice.sees("Welcome to the network room")) as [SyncedEvent]
        yield* alice.say(network, "CONNECT")
        yield* alice.sees("Capabilities wanted")
        const bob = yield* ircClient(ircPort, "bob", "#tea")
        yield* bob.hears("End of NAMES list")
        yield* alice.say(network, "JOIN #tea")
        const [{ room: channel }] = (yield* alice.sees("Joined #tea")) as [SyncedEvent]

        // The bridge makes a user for people on IRC once they speak.
        bob.say("good morning")
        yield* alice.sees("good morning")
        yield* alice.meets("@irc_local_bob:green.test")
        bob.say("the kettle is on")
        const [message] = (yield* alice.sees("the kettle is on")) as [SyncedEvent]
        assert.strictEqual(message.sender, "@irc_local_bob:green.test")
        yield* alice.say(channel, "with milk, please")
        assert.strictEqual(yield* bob.hears("with milk, please"), 1)

        yield* first.kill
        yield* start
        yield* alice.say(channel, "back again")
        assert.strictEqual(yield* bob.hears("back again"), 1)
        bob.say("another cup?")
        assert.lengthOf(yield* alice.sees("another cup?"), 1)
        assert.strictEqual(yield* bob.hears("with milk, please"), 1)
      }).pipe(Effect.scoped),
    180_000
  )
})
