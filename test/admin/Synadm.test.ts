/**
 * synadm from PyPI, the administration tool of Synapse's operators, and our command line, against the same server. Without Python, which
 * `.ci/run` installs, the test is skipped.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted, Schedule } from "effect"
import { greenroom as runGreenroom } from "../../apps/gateway/test/support/Commands.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { installPython } from "../support/Synapse.ts"

const run = promisify(execFile)

const hasPython = await run("python3", ["-m", "venv", "--help"]).then(
  () => true,
  () => false
)

describe.skipIf(!hasPython)("synadm", () => {
  it.live(
    "synadm administers users, rooms, content and tokens, and the audit log of the command line has its actions",
    () =>
      Effect.gen(function* () {
        const python = yield* Effect.promise(() => installPython("synadm", ["synadm==0.49.2"]))
        const directory = yield* GatewayProcess.temporaryDirectory
        const databaseUrl = yield* TestDatabase.url
        const settings = [
          "--data-dir",
          directory,
          "--database-url",
          Redacted.value(databaseUrl),
          "--server-name",
          "green.test"
        ]
        const greenroom = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
          const { code, error, out } = yield* runGreenroom([...args, ...settings, "--json"])
          assert.strictEqual(code, 0, error)
          return out
            .trimEnd()
            .split("\n")
            .map((line) => JSON.parse(line) as Record<string, never>)
        })
        const { url } = yield* GatewayProcess.start({ dataDir: directory, databaseUrl })
        const call = (method: string, target: string, token: string, json: object) =>
          Effect.promise(async () => {
            const response = await fetch(`${url}/_matrix/client/v3${target}`, {
              method,
              headers: { authorization: `Bearer ${token}` },
              body: JSON.stringify(json)
            })
            return (await response.json()) as Record<string, string>
          })
        const register = (name: string) =>
          call("POST", "/register", "", { username: name, password: "a-password", auth: { type: "m.login.dummy" } })
        const [boss, eve] = [yield* register("boss"), yield* register("eve")]
        yield* greenroom("user", "admin", "boss")

        const config = path.join(directory, "synadm.yaml")
        yield* Effect.promise(() =>
          fs.writeFile(
            config,
            `base_url: ${url}\nadmin_path: /_synapse/admin\nmatrix_path: /_matrix\nuser: boss\n` +
              `token: ${boss.access_token}\nformat: json\ntimeout: 30\nserver_discovery: well-known\nhomeserver: green.test\nssl_verify: false\n`
          )
        )
        const synadm = (...args: ReadonlyArray<string>) =>
          Effect.promise(async () => {
            const command = path.join(path.dirname(python), "synadm")
            const { stdout } = await run(command, ["--batch", "-c", config, "-o", "json", ...args], {
              env: { PATH: process.env.PATH, HOME: directory }
            })
            // Some commands print text before their JSON.
            const begin = stdout.lastIndexOf("\n{") + 1
            const end = stdout.lastIndexOf("}") + 1
            return (end === 0 ? {} : JSON.parse(stdout.slice(begin, end))) as Record<string, never>
          })
        const nameOf = (user: unknown) => (user as { readonly name: string }).name

        assert.match((yield* synadm("version")).server_version as unknown as string, /Greenroom/)
        const { users } = yield* synadm("user", "list")
        assert.sameMembers((users as unknown as Array<unknown>).map(nameOf), ["@boss:green.test", "@eve:green.test"])
        assert.strictEqual(nameOf(yield* synadm("user", "details", "eve")), "@eve:green.test")
        yield* synadm("user", "modify", "eve", "--display-name", "Eve the second")
        assert.strictEqual((yield* synadm("user", "details", "eve")).displayname, "Eve the second" as never)

        const { room_id: room } = yield* call("POST", "/createRoom", eve.access_token!, {
          name: "Den",
          preset: "public_chat"
        })
        const rooms = yield* synadm("room", "list")
        assert.strictEqual(rooms.total_rooms, 1 as never)
        assert.strictEqual((yield* synadm("room", "details", room!)).name, "Den" as never)
        assert.deepStrictEqual((yield* synadm("room", "members", room!)).members, ["@eve:green.test"] as never)
        const { event_id: message } = yield* call(
          "PUT",
          `/rooms/${encodeURIComponent(room!)}/send/m.room.message/1`,
          eve.access_token!,
          { msgtype: "m.text", body: "spam" }
        )
        const { redact_id } = yield* synadm("user", "redact", "eve", "--reason", "spam", "--limit", "10")
        const redactStatus = yield* Effect.repeat(synadm("user", "redact-status", redact_id as unknown as string), {
          until: ({ status }) => status === ("completed" as never),
          schedule: Schedule.spaced("200 millis")
        })
        assert.deepStrictEqual(redactStatus.failed_redactions, {} as never)
        const [redaction] = yield* greenroom("user", "redactions", "eve")
        assert.deepInclude(redaction as object, { redact_id, status: "completed", sender: "@eve:green.test" })
        const redacted = yield* Effect.promise(async () => {
          const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room!)}/event/${encodeURIComponent(message!)}`
          return await (
            await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${eve.access_token}` } })
          ).json()
        })
        assert.deepStrictEqual((redacted as { readonly content: object }).content, {})

        const upload = yield* Effect.promise(async () => {
          const headers = { authorization: `Bearer ${eve.access_token}`, "content-type": "text/plain" }
          const response = await fetch(`${url}/_matrix/media/v3/upload`, { method: "POST", headers, body: "kept" })
          return ((await response.json()) as { readonly content_uri: string }).content_uri
        })
        yield* synadm("media", "protect", upload.split("/").at(-1)!)
        const { media } = yield* synadm("user", "media", "eve")
        assert.strictEqual((media as unknown as ReadonlyArray<Record<string, unknown>>)[0]?.safe_from_quarantine, true)

        const removed = yield* synadm("room", "delete", "--v1", room!)
        assert.deepStrictEqual(removed.kicked_users, ["@eve:green.test"] as never)
        assert.strictEqual((yield* synadm("room", "list")).total_rooms, 0 as never)

        const token = yield* synadm("regtok", "new", "-n", "from-synadm", "-u", "2")
        assert.strictEqual(token.uses_allowed, 2 as never)
        assert.lengthOf((yield* synadm("regtok", "list")).registration_tokens as unknown as Array<unknown>, 1)
        yield* synadm("user", "deactivate", "eve")
        assert.strictEqual((yield* synadm("user", "details", "eve")).deactivated, true as never)

        // The command line shuts down a room of the running server, and the audit log has all actions.
        const { room_id: second } = yield* call("POST", "/createRoom", boss.access_token!, { name: "Hall" })
        yield* greenroom("room", "shut-down", second!, "--block")
        yield* Effect.repeat(greenroom("room", "removals", second!), {
          until: ([removal]) => removal?.status === ("complete" as never),
          schedule: Schedule.spaced("200 millis")
        })
        const entries = yield* greenroom("audit", "list", "--target", second!)
        assert.deepInclude(entries[0] as object, { actor: "command line", action: "room.delete" })
        const [verdict] = yield* greenroom("audit", "verify")
        assert.deepStrictEqual(verdict!.problems, [] as never)
        assert.deepInclude((yield* greenroom("audit", "list", "--target", "@eve:green.test"))[0] as object, {
          actor: "@boss:green.test"
        })
      }),
    600_000
  )
})
