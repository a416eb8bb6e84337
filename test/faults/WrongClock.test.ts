/**
 * A machine whose clock is hours or days off, and is set while the server runs. The clock is that of libfaketime, which `.ci/run` installs;
 * without it this is skipped.
 */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as https from "node:https"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { freePorts } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, Fiber, Redacted } from "effect"
import { type Body, curl } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
const hour = 3_600_000
/** How far a time may be from the one that is expected, in ms. */
const near = 60_000

/** Settings of processes with a clock of their own, and what sets it, to so many hours from the right time. */
const makeClock = Effect.map(GatewayProcess.temporaryDirectory, (directory) => {
  const file = path.join(directory, "clock")
  const environment = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1"
  }
  const set = (hours: number) =>
    Effect.promise(async () => {
      await fs.writeFile(`${file}.new`, `${hours < 0 ? "" : "+"}${hours}h`)
      await fs.rename(`${file}.new`, file)
    })
  return { environment, set }
})

const program = path.resolve(import.meta.dirname, "../../apps/gateway/src/admin/main.ts")

interface Finding {
  readonly check: string
  readonly status: string
  readonly found: string
}

/** The findings of `greenroom doctor`. */
const examine = (args: ReadonlyArray<string>, environment: { readonly [name: string]: string }) =>
  Effect.callback<ReadonlyArray<Finding>>((resume) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, NODE_OPTIONS: nodeOptions, ...environment }
    execFile(process.execPath, [program, "doctor", "--json", ...args], { env }, (_failure, out) => {
      const lines = out.trim().split("\n")
      resume(Effect.succeed(lines.map((line) => JSON.parse(line))))
    })
  })

const start = Effect.fnUntraced(function* (hours: number) {
  const clock = yield* makeClock
  yield* clock.set(hours)
  const databaseUrl = yield* TestDatabase.url
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const [federationPort = 0] = yield* freePorts(1)
  const environment = { ...clock.environment, GREENROOM_FEDERATION_PORT: `${federationPort}` }
  const gateway = yield* GatewayProcess.start({ dataDir, databaseUrl, environment })
  /** A user, whose access token expires where `expires` says so. */
  const register = Effect.fnUntraced(function* (username: string, expires = false) {
    const { body } = yield* curl(gateway.url, "POST", "/_matrix/client/v3/register", {
      data: { username, password: "correct horse", auth: { type: "m.login.dummy" }, refresh_token: expires }
    })
    const user = { token: body.access_token as string, refreshToken: body.refresh_token as string }
    const answerTo = (method: string, where: string, data?: object) =>
      curl(gateway.url, method, `/_matrix/client/${where}`, { token: user.token, ...(data && { data }) })
    const ask = Effect.fnUntraced(function* (method: string, where: string, data?: object) {
      const answer = yield* answerTo(method, where, data)
      assert.strictEqual(answer.status, 200, `${where}: ${answer.text}`)
      return answer.body
    })
    return { answerTo, ask, user }
  })
  const doctor = examine(["--data-dir", dataDir, "--database-url", Redacted.value(databaseUrl)], environment)
  return { clock, doctor, federationPort, gateway, register }
})

/** The signing keys that other servers get. */
const publishedKeys = (port: number) =>
  Effect.callback<Body>((resume) => {
    const request = https.get(
      { host: "127.0.0.1", port, path: "/_matrix/key/v2/server", rejectUnauthorized: false },
      (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part
        })
        response.on("end", () => resume(Effect.succeed(JSON.parse(text))))
      }
    )
    request.on("error", (error) => resume(Effect.die(error)))
  })

const messages = (body: Body, room: string): ReadonlyArray<Body> =>
  (body.rooms?.join?.[room]?.timeline?.events ?? []).filter(({ type }: Body) => type === "m.room.message")

describe.skipIf(!existsSync(library))("a wrong clock", () => {
  it.live(
    "is named by the log and by doctor, and polls, times, delays and tokens go on when it is set",
    () =>
      Effect.gen(function* () {
        const { clock, doctor, federationPort, gateway, register } = yield* start(-5)
        assert.match(gateway.output(), /The clock of this machine is 5 hours behind that of the database/)
        const findings = yield* doctor
        assert.isTrue(
          findings.some(({ check, found, status }) => check === "clock" && status === "error" && /behind/.test(found)),
          JSON.stringify(findings)
        )

        const { ask } = yield* register("alice")
        const { ask: askBob } = yield* register("bob")
        const carol = yield* register("carol", true)
        const makeRoom = Effect.map(
          ask("POST", "v3/createRoom", { room_version: "12", preset: "public_chat" }),
          ({ room_id }) => room_id as string
        )
        const room = yield* makeRoom
        yield* askBob("POST", `v3/join/${encodeURIComponent(room)}`, {})
        let sent = 0
        const send = Effect.suspend(() =>
          ask("PUT", `v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${++sent}`, {
            msgtype: "m.text",
            body: `${sent}`
          })
        )
        /** How far the time of an event is from the right one, in ms. */
        const offset = Effect.fnUntraced(function* (roomId: string, eventId: string) {
          const where = `v3/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`
          const { origin_server_ts, unsigned } = yield* ask("GET", where)
          if (unsigned?.age !== undefined) assert.isAtLeast(unsigned.age, 0)
          return origin_server_ts - Date.now()
        })
        assert.closeTo(yield* offset(room, (yield* send).event_id), -5 * hour, near)

        let since = (yield* askBob("GET", "v3/sync")).next_batch as string
        /** The messages of Bob's next poll. */
        const poll = (timeout: number) =>
          Effect.map(askBob("GET", `v3/sync?timeout=${timeout}&since=${since}`), (body) => {
            since = body.next_batch
            return messages(body, room).map(({ content }) => content.body as string)
          })
        /** The next messages, poll after poll. */
        const nextMessages: Effect.Effect<ReadonlyArray<string>> = Effect.flatMap(
          Effect.suspend(() => poll(600_000)),
          (found) => (found.length === 0 ? nextMessages : Effect.succeed(found))
        )
        const during = <A>(polls: Effect.Effect<A>, work: Effect.Effect<unknown>) =>
          Effect.gen(function* () {
            const polling = yield* Effect.forkChild(polls, { startImmediately: true })
            yield* work
            return yield* Fiber.join(polling)
          })
        for (const hours of [0, -5, 5, -120, 120, 0]) {
          // The test ends in time only if a poll does.
          assert.deepStrictEqual(yield* during(poll(1_000), clock.set(hours)), [])
          assert.deepStrictEqual(yield* during(nextMessages, send), [`${sent}`])
          assert.closeTo(yield* offset(room, (yield* send).event_id), hours * hour, near)
          assert.deepStrictEqual(yield* nextMessages, [`${sent}`])
          const other = yield* makeRoom
          assert.closeTo(yield* offset(other, `$${other.slice(1)}`), hours * hour, near, "the time of a new room")
          const presence = yield* askBob("GET", `v3/presence/${encodeURIComponent("@alice:green.test")}/status`)
          assert.isAtLeast(presence.last_active_ago, 0)
        }

        // An event that waits when the clock is set back is sent all the same.
        yield* clock.set(5)
        const delayed = `v3/rooms/${encodeURIComponent(room)}/send/m.room.message/delayed?org.matrix.msc4140.delay=1500`
        yield* ask("PUT", delayed, { msgtype: "m.text", body: "delayed" })
        yield* clock.set(-5)
        assert.deepStrictEqual(yield* nextMessages, ["delayed"])

        // An access token expires early where the clock is set forward, and can be refreshed.
        yield* clock.set(0)
        const expired = yield* carol.answerTo("GET", "v3/account/whoami")
        assert.deepStrictEqual([expired.status, expired.body.soft_logout], [401, true])
        const refreshed = yield* carol.ask("POST", "v3/refresh", { refresh_token: carol.user.refreshToken })
        carol.user.token = refreshed.access_token
        yield* carol.ask("GET", "v3/account/whoami")
        assert.isAbove((yield* publishedKeys(federationPort)).valid_until_ts, Date.now())
        assert.notInclude(gateway.output(), "Internal error")
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "is found by doctor beside the embedded database, which has the same clock",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const { url } = yield* GatewayProcess.start({ dataDir })
        const { body } = yield* curl(url, "POST", "/_matrix/client/v3/register", {
          data: { username: "alice", password: "correct horse", auth: { type: "m.login.dummy" } }
        })
        const room = yield* curl(url, "POST", "/_matrix/client/v3/createRoom", { token: body.access_token, data: {} })
        const where = `/_matrix/client/v3/rooms/${encodeURIComponent(room.body.room_id)}/send/m.room.message/1`
        yield* curl(url, "PUT", where, { token: body.access_token, data: { msgtype: "m.text", body: "now" } })
        const clock = yield* makeClock
        const clockFindings = (hours: number) =>
          Effect.map(
            Effect.andThen(clock.set(hours), examine(["--data-dir", dataDir], clock.environment)),
            (findings) => findings.filter(({ check }) => check === "clock").map(({ found }) => found)
          )
        const behind =
          "is 5 days behind the newest record of the database: it is slow, or was ahead when that was written"
        assert.deepStrictEqual(yield* clockFindings(-120), [behind])
        assert.match((yield* clockFindings(0)).join(), /could be compared with no other/)
      }).pipe(Effect.scoped),
    120_000
  )
})
