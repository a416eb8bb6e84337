import { NodeServices } from "@effect/platform-node"
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, FileSystem, Redacted } from "effect"
import { command, greenroom } from "../support/Commands.ts"
import { gateway, post, temporaryDirectory } from "../support/Gateway.ts"

/** The timeout of tests with many processes, in ms. */
const manyProcesses = 240_000

describe("greenroom", () => {
  it.live(
    "commands create users, make them admins and rotate signing keys, and report errors in one line",
    () =>
      Effect.gen(function* () {
        const database = Redacted.value(yield* TestDatabase.url)
        const settings = [
          "--data-dir",
          yield* temporaryDirectory,
          "--database-url",
          database,
          "--server-name",
          "green.test"
        ]
        const run = (args: string, input?: string) => command([...args.split(" "), ...settings], input)
        const args = "user create alice --password-stdin --email alice@mail.test".split(" ")
        const created = yield* greenroom([...args, ...settings], { input: "a long secret" })
        assert.deepStrictEqual(created, { code: 0, out: "created @alice:green.test\n", error: "" })
        const again = yield* greenroom(["user", "create", "alice", ...settings])
        assert.deepStrictEqual(again, { code: 1, out: "", error: "greenroom: @alice:green.test is taken\n" })
        assert.match((yield* run("user create bob")).out, /^created @bob:green\.test\npassword: [\w-]{16}\n$/)
        assert.strictEqual((yield* run("user admin alice")).out, "alice is an admin\n")
        assert.strictEqual((yield* run("user admin bob")).out, "bob is an admin\n")
        assert.strictEqual((yield* run("user admin bob --no-admin")).out, "bob is no longer an admin\n")
        const list = yield* run("user list")
        assert.match(list.out, /^@alice:green\.test {2}created \S+Z {2}admin\n@bob:green\.test {2}created \S+Z\n$/)
        const json = (yield* run("user list --json")).out.trimEnd().split("\n")
        const { created_ts, ...alice } = JSON.parse(json[0] ?? "")
        assert.strictEqual(typeof created_ts, "number")
        assert.deepStrictEqual(alice, { user_id: "@alice:green.test", admin: true, has_password: true })
        const migrated = JSON.parse((yield* run("migrate --json")).out)
        assert.deepStrictEqual(Object.keys(migrated), ["done", "version"])
        const token = yield* run("token create --uses 2")
        assert.match(token.out, /^token: [\w-]{24}\nid: [0-9a-f]{12}\n$/)
        const id = /id: (\w+)/.exec(token.out)?.[1] ?? ""
        assert.strictEqual((yield* run("token list")).out, `${id}  used 0 of 2\n`)
        assert.strictEqual((yield* run(`token remove ${id}`)).code, 0)
        assert.strictEqual((yield* run("user show nobody")).error, "greenroom: There is no user @nobody:green.test\n")
        const [, first = ""] = /^(ed25519:\w+) {2}signs now\n$/.exec((yield* run("signing-key list")).out) ?? []
        const rotated = yield* run("signing-key rotate")
        const [, second = ""] = /^(ed25519:\w+) signs from now on/.exec(rotated.out) ?? []
        assert.notStrictEqual(second, first)
        const keys = (yield* run("signing-key list")).out
        assert.match(keys, new RegExp(`^${second}  signs now\n${first}  replaced \\S+Z, published .*\n$`))
        const file = `${yield* temporaryDirectory}/greenroom.toml`
        yield* (yield* FileSystem.FileSystem).writeFileString(file, "[login]\nmin_password_length = 8\n")
        const banned = yield* run("ban add server Spam.test --reason floods")
        assert.deepStrictEqual(banned, { code: 0, out: "Spam.test is banned\n", error: "" })
        assert.match((yield* run("ban add user @bob:green.test --reason rude")).out, /is banned, and logged in nowhere/)
        assert.match((yield* run("ban add content ab12 --reason x")).error, /ab12: expected the SHA-256 of content/)
        assert.match((yield* run("ban add content mxc://green.test/ab --reason x")).error, /no content mxc:.* here\n$/)
        const bans = (yield* run("ban list --json")).out.trimEnd().split("\n")
        const { banned_ts, ...ban } = JSON.parse(bans[1] ?? "")
        assert.strictEqual(typeof banned_ts, "number")
        const expected = { kind: "server", value: "spam.test", reason: "floods", banned_by: "command line" }
        assert.deepStrictEqual([bans.length, ban], [2, expected])
        assert.strictEqual((yield* run("ban lift server spam.test")).out, "spam.test is not banned any more\n")
        assert.strictEqual((yield* run("ban lift server spam.test")).error, "greenroom: spam.test is not banned\n")
        const audit = (yield* run("audit list --target spam.test")).out
        assert.match(
          audit,
          /^\d+ {2}\S+ {2}command line {2}ban\.lift_server\.failed {2}spam\.test {2}"spam\.test is not banned" {2}\{"row":\d+\}\n/
        )
        assert.match(
          (yield* run("audit list --target @alice:green.test")).out,
          /user\.create\.failed {2}@alice:green\.test/
        )
        assert.match(
          (yield* run("ban add server far.test --reason x")).error,
          /--reason must have at least 3 characters/
        )
        assert.match((yield* run("token create --days 99999999999")).error, /--days must be at most 36500/)
        assert.match((yield* run("doctor --peer no/name")).out, /error .*--peer: no\/name is not a server name/)
        const [key] = (yield* run("signing-key list --json")).out.split("\n")
        assert.match(JSON.parse(key ?? "").public_key, /^[\w+/]{43}$/)
        const short = yield* run(`user reset-password bob --password-stdin --config ${file}`, "2short")
        assert.strictEqual(short.error, "greenroom: password: must have 8 to 512 characters\n")
        yield* (yield* FileSystem.FileSystem).writeFileString(file, '[server_notices]\nlocalpart = "alice"\n')
        const reserved = yield* run(`user create alice --config ${file}`)
        assert.strictEqual(reserved.error, "greenroom: @alice:green.test sends server notices: choose another name\n")
        const onFreePorts = ["--port", "0", "--federation-port", "0", "--config", file]
        assert.deepStrictEqual(yield* greenroom(["serve", ...onFreePorts, ...settings]), {
          code: 1,
          out: "",
          error:
            "greenroom: server_notices.localpart: @alice:green.test is the account of a user: choose another name\n"
        })
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    manyProcesses
  )

  it.live(
    "commands other than the first account, migrate and restore create no database, no tables and no data directory",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const dataDir = `${directory}/data`
        const files = yield* FileSystem.FileSystem
        const looks = [
          "user list",
          "audit verify",
          "signing-key list",
          "backup /tmp/none",
          "media list alice",
          "room list"
        ]
        for (const args of looks) {
          assert.deepStrictEqual(yield* command([...args.split(" "), "--data-dir", dataDir]), {
            code: 1,
            out: "",
            error: `greenroom: ${dataDir} has no database: start the server once, or name its directory with --data-dir\n`
          })
        }
        const onEmbedded = ["--data-dir", dataDir, "--server-name", "localhost"]
        assert.match((yield* command(["doctor", ...onEmbedded])).out, /warning .*data has no database yet/)
        assert.deepStrictEqual(yield* files.readDirectory(directory), [])
        const database = yield* TestDatabase.emptyUrl
        const onEmpty = [...onEmbedded, "--database-url", Redacted.value(database)]
        assert.match(
          (yield* command(["doctor", ...onEmpty])).out,
          /database +is empty; the first start makes its tables/
        )
        const connection = yield* PgConnection.make({ url: database })
        const unused =
          "greenroom: No server has used this database yet: start the server once, or name another database"
        for (const args of looks.filter((args) => !args.startsWith("backup"))) {
          assert.include((yield* command([...args.split(" "), ...onEmpty])).error, unused, args)
        }
        const tables = "SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert.lengthOf((yield* connection.query(tables)).rows, 0)
        assert.strictEqual((yield* command(["migrate", ...onEmpty])).code, 0)
        assert.include((yield* command(["user", "list", ...onEmpty])).error, unused)
        assert.lengthOf((yield* connection.query("SELECT FROM server_settings")).rows, 0)
        assert.strictEqual((yield* command(["user", "create", "alice", ...onEmpty])).code, 0)
        assert.match((yield* command(["user", "list", ...onEmpty])).out, /^@alice:localhost /)
        yield* connection.query(
          "DELETE FROM migrations WHERE migration_id = (SELECT max(migration_id) FROM migrations)"
        )
        assert.match(
          (yield* command(["user", "list", ...onEmpty])).error,
          /^greenroom: The database is at version \d+, and this Greenroom needs \d+: start the server, or run greenroom migrate\n$/
        )
        assert.deepStrictEqual(yield* files.readDirectory(directory), [])
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    manyProcesses
  )

  it.live(
    "the program without arguments lists all commands",
    () =>
      Effect.gen(function* () {
        const help = yield* greenroom([])
        assert.deepStrictEqual(help, yield* greenroom(["--help"]))
        assert.strictEqual(help.code, 0)
        const names = Array.from(help.out.matchAll(/^ {2}(\S+) {2,}\S/gm), ([, name]) => name ?? "")
        assert.includeMembers(names, ["serve", "migrate", "user", "token", "media", "signing-key"])
        const wrong = yield* greenroom(["usr"])
        assert.deepStrictEqual(wrong, {
          code: 1,
          out: "",
          error: 'greenroom: there is no command "usr" (see --help)\n'
        })
      }),
    manyProcesses
  )

  it.live(
    "commands use the embedded PostgreSQL of a running server, and start it themselves without one",
    () =>
      Effect.gen(function* () {
        const dataDir = `${yield* temporaryDirectory}/data`
        const run = (args: string, input?: string) => command([...args.split(" "), "--data-dir", dataDir], input)
        const args = "user create alice --password-stdin --data-dir".split(" ")
        assert.strictEqual((yield* greenroom([...args, dataDir], { input: "first" })).code, 0)
        yield* Effect.scoped(
          Effect.gen(function* () {
            const url = yield* gateway(["--data-dir", dataDir, "--registration-approval"])
            const api = `${url}/matrix/client/api/v1`
            const login = (password: string) =>
              post(`${api}/login`, { type: "m.login.password", user: "alice", password })
            const { body } = yield* login("first")
            assert.match((yield* run("user devices alice")).out, new RegExp(`^${body.device_id}  last used `))
            assert.strictEqual((yield* run("user reset-password alice --password-stdin", "second")).code, 0)
            assert.strictEqual((yield* login("first")).status, 403)
            assert.strictEqual((yield* login("second")).status, 200)
            const untilLogin = (status: number) =>
              Effect.repeat(login("second"), { until: (answer) => answer.status === status })
            assert.strictEqual((yield* run("user lock alice")).code, 0)
            assert.strictEqual((yield* untilLogin(401)).body.errcode, "M_USER_LOCKED")
            assert.strictEqual((yield* run("user unlock alice")).code, 0)
            yield* untilLogin(200)
            const ben = { type: "m.login.password", user: "ben", password: "secret" }
            const made = yield* post(`${api}/register`, ben)
            assert.deepStrictEqual([made.status, made.body.errcode], [403, "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL"])
            assert.match(
              (yield* run("user list --waiting")).out,
              /^@ben:localhost {2}created \S+ {2}waits for approval\n$/
            )
            assert.strictEqual((yield* run("user approve ben")).out, "@ben:localhost was approved\n")
            assert.strictEqual((yield* post(`${api}/login`, ben)).status, 200)
            assert.match((yield* run("media remove-all ben")).out, /^removed 0 files of @ben:localhost\n$/)
            const audit = (yield* run("audit list")).out
            assert.match(audit, /registration\.approve/)
            assert.match(audit, /command line.*media\.remove_all.*@ben:localhost/)
            assert.strictEqual((yield* run("user deactivate alice")).code, 0)
            assert.strictEqual((yield* login("second")).status, 403)
          })
        )
        assert.include((yield* run("user show alice")).out, "deactivated")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    manyProcesses
  )
})
