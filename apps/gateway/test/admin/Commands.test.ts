/**
 * Rules for all commands of `greenroom`: each has a help text, prints JSON with `--json`, and fails with one line and exit code 1. A command
 * without an entry in `steps` fails the test.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted } from "effect"
import { groups } from "../../src/admin/Groups.ts"
import { command } from "../support/Commands.ts"
import { gateway, post, put, temporaryDirectory } from "../support/Gateway.ts"

/** The names of all commands, such as `user create`. */
const allCommands = Effect.promise(async () => {
  interface Node {
    readonly name: string
    readonly subcommands: ReadonlyArray<{ readonly commands: ReadonlyArray<Node> }>
  }
  const leavesOf = (node: Node, before: ReadonlyArray<string>): ReadonlyArray<string> => {
    const args = [...before, node.name]
    const children = node.subcommands.flatMap(({ commands }) => commands)
    return children.length === 0 ? [args.join(" ")] : children.flatMap((child) => leavesOf(child, args))
  }
  const loaded = await Promise.all(Object.values(groups).map(({ load }) => load?.()))
  return loaded.flatMap((found) => (found === undefined ? [] : leavesOf(found as unknown as Node, [])))
})

/** Values of the running server and of earlier steps. */
interface Known {
  room: string
  uri: string
  device: string
  directory: string
  elsewhere: string
  export: string
  token: string
}

interface Step {
  readonly command: string
  readonly args?: (known: Known) => ReadonlyArray<string>
  readonly input?: string
  /** Stores a part of the first printed value. */
  readonly keep?: (known: Known, value: { readonly [name: string]: string }) => void
  /** The error of a command that must fail. */
  readonly fails?: RegExp
}

const onAda = () => ["ada"]
const byAda = ["--as", "ada"]

const steps: ReadonlyArray<Step> = [
  { command: "user create", args: () => ["bob", "--admin", "--password-stdin"], input: "bob's secret" },
  { command: "user admin", args: onAda },
  { command: "user list" },
  { command: "user show", args: onAda },
  { command: "user devices", args: onAda },
  { command: "user logout", args: ({ device }) => ["ada", device] },
  { command: "user notice", args: () => ["ada", "hello"], fails: /^greenroom: Server notices are off/ },
  { command: "user create", args: () => ["cleo", "--without-password"] },
  { command: "user lock", args: () => ["cleo"] },
  { command: "user unlock", args: () => ["cleo"] },
  { command: "user suspend", args: () => ["cleo"] },
  { command: "user unsuspend", args: () => ["cleo"] },
  { command: "user reset-password", args: () => ["cleo"] },
  { command: "user approve", args: () => ["cleo"], fails: /does not wait for approval/ },
  { command: "user reject", args: () => ["cleo"], fails: /does not wait for approval/ },
  { command: "import contacts", args: ({ directory }) => [`${directory}/cards.vcf`, "--user", "cleo"] },
  {
    command: "export request",
    args: () => ["cleo", ...byAda, "--reason", "order 17"],
    input: "secret",
    keep: (known, { export_id = "" }) => {
      known.export = export_id
    }
  },
  {
    command: "export request",
    args: () => ["cleo", ...byAda, "--reason", "why"],
    input: "?",
    fails: /The password of .* is wrong/
  },
  {
    command: "export read",
    args: (known) => [known.export, `${known.directory}/x`, ...byAda],
    input: "secret",
    fails: /has to approve the export first/
  },
  {
    command: "export approve",
    args: (known) => [known.export, ...byAda, "--reason", "why"],
    input: "secret",
    fails: /Another administrator than the one who asked/
  },
  {
    command: "export approve",
    args: (known) => [known.export, "--as", "bob", "--reason", "seen"],
    input: "bob's secret"
  },
  { command: "export list" },
  {
    command: "export read",
    args: (known) => [known.export, `${known.directory}/cleo.jsonl`, ...byAda],
    input: "secret"
  },
  { command: "import contacts", args: ({ directory }) => [`${directory}/cleo.jsonl`] },
  { command: "user redact", args: ({ room }) => ["ada", "--room", room, "--days", "1", "--reason", "odd"] },
  { command: "user redactions", args: onAda },
  { command: "user deactivate", args: () => ["cleo"] },
  {
    command: "token create",
    keep: (known, { id = "" }) => {
      known.token = id
    }
  },
  { command: "token list" },
  { command: "token remove", args: ({ token }) => [token] },
  { command: "media list", args: onAda },
  { command: "media quarantine", args: ({ uri }) => [uri] },
  { command: "media release", args: ({ uri }) => [uri] },
  { command: "media protect", args: ({ uri }) => [uri] },
  { command: "media unprotect", args: ({ uri }) => [uri] },
  { command: "media remove", args: ({ uri }) => [uri] },
  { command: "media remove-all", args: onAda },
  { command: "room list" },
  { command: "room show", args: ({ room }) => [room] },
  { command: "room block", args: ({ room }) => [room] },
  { command: "room unblock", args: ({ room }) => [room] },
  { command: "report list" },
  { command: "report remove", args: () => ["1"] },
  { command: "ban add", args: () => ["server", "spam.test", "--reason", "floods"] },
  { command: "ban list" },
  { command: "ban lift", args: () => ["server", "spam.test"] },
  { command: "federation destinations" },
  { command: "federation retry", args: () => ["spam.test"], fails: /has never tried to reach spam\.test/ },
  { command: "signing-key list" },
  { command: "signing-key rotate" },
  { command: "migrate" },
  { command: "room purge-history", args: ({ room }) => [room, "--days", "1"] },
  { command: "room shut-down", args: ({ room }) => [room, "--wait"] },
  { command: "room removals", args: ({ room }) => [room] },
  { command: "audit list" },
  { command: "audit verify" },
  { command: "backup", args: ({ directory }) => [`${directory}/green.backup`] },
  {
    command: "restore",
    args: ({ directory, elsewhere }) => [`${directory}/green.backup`, "--database-url", elsewhere]
  },
  { command: "doctor", fails: /\d+ errors? among \d+ findings?/ }
]

const card = "BEGIN:VCARD\r\nVERSION:4.0\r\nUID:urn:uuid:1\r\nFN:Nell\r\nEMAIL:nell@mail.test\r\nEND:VCARD\r\n"

/** A server with an administrator who has a room, a file and a report. */
const populate = Effect.fnUntraced(function* (url: string) {
  const account = { username: "ada", password: "secret", auth: { type: "m.login.dummy" } }
  const { body } = yield* post(`${url}/_matrix/client/v3/register`, account)
  const token = body.access_token ?? ""
  const created = yield* post(`${url}/_matrix/client/v3/createRoom`, {}, token)
  const room = created.body.room_id ?? ""
  const inRoom = `${url}/_matrix/client/v3/rooms/${encodeURIComponent(room)}`
  yield* put(`${inRoom}/send/m.room.message/1`, { msgtype: "m.text", body: "hello" }, token)
  yield* post(`${inRoom}/report`, { reason: "odd" }, token)
  const uploaded = yield* post(`${url}/_matrix/media/v3/upload`, { a: 1 }, token)
  return { room, uri: uploaded.body.content_uri ?? "", device: body.device_id ?? "" }
})

describe("every command of greenroom", () => {
  it.live(
    "every command prints JSON with --json while a server runs, or fails with one line",
    () =>
      Effect.gen(function* () {
        const database = Redacted.value(yield* TestDatabase.url)
        const directory = yield* temporaryDirectory
        yield* Effect.promise(() => fs.writeFile(path.join(directory, "cards.vcf"), card))
        const settings = ["--data-dir", path.join(directory, "data"), "--server-name", "green.test"]
        const onDatabase = ["--database-url", database]
        const url = yield* gateway([...settings, ...onDatabase])
        const elsewhere = Redacted.value(yield* TestDatabase.emptyUrl)
        const known: Known = { ...(yield* populate(url)), directory, elsewhere, export: "", token: "" }
        for (const { command: name, fails, input, keep, args = () => [] } of steps) {
          const options = args(known)
          const on = options.includes("--database-url") ? settings : [...settings, ...onDatabase]
          const { code, error, out } = yield* command([...name.split(" "), ...options, ...on, "--json"], input)
          const values = out
            .split("\n")
            .filter((line) => line !== "")
            .map((line) => JSON.parse(line))
          const withoutDetails = out.replace(/"details":\{.*?\}/g, "")
          assert.notMatch(withoutDetails, /"[a-z]+[A-Z]\w*":/, `${name} has keys as in the APIs`)
          if (fails === undefined) {
            assert.deepStrictEqual([code, error], [0, ""], name)
            for (const value of values) assert.isObject(value, name)
            keep?.(known, values[0])
          } else {
            assert.strictEqual(code, 1, name)
            assert.match(error, fails, name)
            assert.match(error, /^greenroom: .+\n$/, name)
          }
        }
        const exported = yield* Effect.promise(() => fs.readFile(path.join(directory, "cleo.jsonl"), "utf8"))
        assert.include(exported, "Nell")
        assert.sameMembers([...new Set(steps.map((step) => step.command))], [...(yield* allCommands)])
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    600_000
  )

  it.live(
    "every command has a help text, and reports an unreachable database or a wrong option in one line",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const known: Known = {
          room: "!a:b",
          uri: "mxc://a/b",
          device: "D",
          directory,
          elsewhere: "",
          export: "E",
          token: "T"
        }
        for (const name of yield* allCommands) {
          const args = name.split(" ")
          const help = yield* command([...args, "--help"])
          assert.strictEqual(help.code, 0, name)
          assert.match(help.out, /--json/, name)
          const wrong = yield* command([...args, "--no-such-option"])
          assert.deepStrictEqual([wrong.code, wrong.out], [1, ""], name)
          assert.match(wrong.error, /^greenroom: .*--no-such-option.*\(see --help\)\n$/, name)
          if (name === "doctor" || name === "restore") continue
          const options = steps.find((step) => step.command === name)?.args?.(known) ?? []
          const nowhere = ["--data-dir", directory, "--database-url", "postgresql://127.0.0.1:1/none"]
          const unreachable = yield* command([...args, ...options, ...nowhere])
          assert.deepStrictEqual([unreachable.code, unreachable.out], [1, ""], name)
          assert.match(unreachable.error, /^greenroom: .+\n$/, name)
        }
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    600_000
  )

  it.live(
    "an export is imported only if it is complete, of this server and of this user",
    () =>
      Effect.gen(function* () {
        const database = Redacted.value(yield* TestDatabase.url)
        const directory = yield* temporaryDirectory
        const settings = ["--data-dir", directory, "--server-name", "green.test", "--database-url", database]
        const run = (args: string, input?: string) => command([...args.split(" "), ...settings], input)
        for (const user of ["ann --admin", "ben --admin", "cat"])
          yield* run(`user create ${user} --password-stdin`, "secret")
        yield* Effect.promise(() => fs.writeFile(path.join(directory, "cards.vcf"), card))
        assert.match((yield* run(`import contacts ${directory}/cards.vcf`)).error, /--user must name the owner/)
        const first = yield* run(`import contacts ${directory}/cards.vcf --user cat`)
        assert.match(first.out, /^@cat:green\.test has 1 contact: 1 new, 0 merged, 0 unchanged\n$/)
        const request = JSON.parse((yield* run("export request cat --as ann --reason law --json", "secret")).out)
        yield* run(`export approve ${request.export_id} --as ben --reason seen`, "secret")
        const file = path.join(directory, "cat.jsonl")
        const read = yield* run(`export read ${request.export_id} ${file} --as ann`, "secret")
        assert.strictEqual(read.code, 0, read.error)
        const { mode } = yield* Effect.promise(() => fs.stat(file))
        assert.strictEqual(mode & 0o777, 0o600)
        const whole = yield* Effect.promise(() => fs.readFile(file, "utf8"))
        const lines = whole.split("\n")
        assert.deepInclude(JSON.parse(lines[0]!), {
          type: "header",
          format: "greenroom-export",
          version: 1,
          server_name: "green.test",
          user_id: "@cat:green.test"
        })
        const refused = Effect.fnUntraced(function* (text: string, args = "") {
          yield* Effect.promise(() => fs.writeFile(path.join(directory, "bad"), text))
          const { code, error, out } = yield* run(`import contacts ${directory}/bad${args}`)
          assert.deepStrictEqual([code, out], [1, ""])
          return error
        })
        assert.match(yield* refused(whole.slice(0, -20)), /bad is cut off\. Nothing was imported\.\n$/)
        assert.match(yield* refused([...lines.slice(0, 3), ""].join("\n")), /bad is cut off/)
        assert.match(yield* refused(whole.replace("Nell", "Nill")), /bad was changed or is damaged/)
        assert.match(yield* refused([lines[0], ...lines.slice(2)].join("\n")), /bad was changed or is damaged/)
        assert.match(yield* refused(whole.replace('"version":1', '"version":2')), /an export of a newer Greenroom/)
        assert.match(yield* refused(whole.replaceAll("green.test", "other.test")), /of the server other\.test/)
        assert.match(yield* refused('{"a": 1}\n'), /is not an export of Greenroom/)
        assert.match(yield* refused(whole, " --user ben"), /is an export of @cat:green\.test, not of @ben/)
        const again = yield* run(`import contacts ${file}`)
        assert.match(again.out, /^@cat:green\.test has 1 contact: 0 new, 0 merged, 1 unchanged\n$/)
        assert.match((yield* run("audit list")).out, /@ann:green\.test {2}export\.read/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    600_000
  )
})
