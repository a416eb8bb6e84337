/** Backups that operators make of a running server, and restore into the data directory of another machine. */
import { createHash, randomBytes } from "node:crypto"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted, Schedule } from "effect"
import { Client } from "pg"
import { command, greenroom, startGreenroom } from "../../apps/gateway/test/support/Commands.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { type Person, type Scene, sceneOf, sendMessage, succeeded } from "../support/Scene.ts"

const v3 = "//_matrix/client/v3"

/** Starts a gateway, runs something with it, and ends it. */
const withGateway = <A, E, R>(options: GatewayProcess.GatewayOptions, use: (scene: Scene) => Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.flatMap(GatewayProcess.start(options), (gateway) => use(sceneOf(gateway))))

/** Sends a message. Returns its text. */
const send = (person: Person, room: string, text: string) =>
  Effect.map(sendMessage(person, room, text), (answer) => {
    succeeded(answer)
    return text
  })

/** Sends messages until `done` succeeds. Returns the texts of the acknowledged ones. */
const sendUntil = Effect.fnUntraced(function* <A>(person: Person, room: string, name: string, done: Effect.Effect<A>) {
  const acknowledged: Array<string> = []
  const sending = Effect.forever(
    Effect.flatMap(
      Effect.suspend(() => send(person, room, `${name}-${acknowledged.length}`)),
      (text) => Effect.sync(() => acknowledged.push(text))
    )
  )
  const result = yield* Effect.raceFirst(done, sending as Effect.Effect<never>)
  return { acknowledged, result }
})

/** All texts of a room, oldest first. */
const textsOf = Effect.fnUntraced(function* (person: Person, room: string) {
  const texts: Array<string> = []
  let from = ""
  for (;;) {
    const { body } = succeeded(
      yield* person.ask("GET", `${v3}/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=100${from}`)
    )
    for (const { content, type } of body.chunk) if (type === "m.room.message") texts.push(content.body)
    if (body.end === undefined || body.chunk.length === 0) return texts.reverse()
    from = `&from=${encodeURIComponent(body.end)}`
  }
})

const sync = (person: Person, since?: string) =>
  Effect.map(
    person.ask("GET", `${v3}/sync?timeout=0${since === undefined ? "" : `&since=${encodeURIComponent(since)}`}`),
    succeeded
  )

interface Upload {
  /** `mxc://server/id` */
  readonly uri: string
  readonly bytes: Buffer
}

/** Uploads random bytes, more than a frame of a backup holds. */
const upload = Effect.fnUntraced(function* (scene: Scene, person: Person) {
  const bytes = randomBytes(1_200_000)
  const headers = { authorization: `Bearer ${person.token}`, "content-type": "application/octet-stream" }
  const url = `${scene.gateway.url}/_matrix/media/v3/upload`
  const answer = yield* Effect.promise(async () => (await fetch(url, { method: "POST", headers, body: bytes })).json())
  return { uri: (answer as { readonly content_uri: string }).content_uri, bytes }
})

/** The content, or the status where it is not served. */
const download = (scene: Scene, person: Person, { uri }: Upload) =>
  Effect.promise(async () => {
    const url = `${scene.gateway.url}/_matrix/client/v1/media/download/${uri.slice("mxc://".length)}`
    const response = await fetch(url, { headers: { authorization: `Bearer ${person.token}` } })
    const bytes = Buffer.from(await response.arrayBuffer())
    return response.status === 200 ? bytes : response.status
  })

/** The path of a file in the content repository. */
const storedAt = (dataDir: string, { bytes }: Upload): string => {
  const name = createHash("sha256").update(bytes).digest("hex")
  return path.join(dataDir, "media/content", name.slice(0, 2), name.slice(2))
}

/** Backs up a server while messages are sent to it. It has three files: one is intact, one is lost and one is damaged. */
const backUp = Effect.fnUntraced(function* (
  scene: Scene,
  file: string,
  dataDir: string,
  options: ReadonlyArray<string> = []
) {
  const alice = yield* scene.register("alice")
  const [intact, lost, damaged] = [
    yield* upload(scene, alice),
    yield* upload(scene, alice),
    yield* upload(scene, alice)
  ]
  yield* Effect.promise(() => fs.rm(storedAt(dataDir, lost)))
  yield* Effect.promise(() => fs.writeFile(storedAt(dataDir, damaged), "rotten"))
  const created = succeeded(yield* alice.ask("POST", `${v3}/createRoom`, { name: "Green" }))
  const room: string = created.body.room_id
  for (let number = 0; number < 20; number++) yield* send(alice, room, `before-${number}`)
  const { acknowledged: during, result } = yield* sendUntil(
    alice,
    room,
    "during",
    greenroom(["backup", file, "--data-dir", dataDir, "--json", ...options])
  )
  assert.strictEqual(result.code, 0, result.error)
  assert.deepStrictEqual(JSON.parse(result.out).files, {
    count: 2,
    bytes: intact.bytes.length + "rotten".length,
    missing: 1,
    damaged: 1
  })
  yield* send(alice, room, "lost-1")
  const newer = (yield* sync(alice)).body.next_batch as string
  yield* send(alice, room, "lost-2")
  return { alice, damaged, during, intact, lost, newer, room }
})

/** Asserts that users find the data of the backup on the restored server. */
const expectRestored = Effect.fnUntraced(function* (
  scene: Scene,
  { alice: { token, userId }, damaged, during, intact, lost, newer, room }: Effect.Success<ReturnType<typeof backUp>>
) {
  const alice = scene.person({ user_id: userId, access_token: token })
  assert.deepStrictEqual(yield* download(scene, alice, intact), intact.bytes)
  assert.strictEqual(yield* download(scene, alice, lost), 404)
  assert.strictEqual(yield* download(scene, alice, damaged), 404)
  const texts = yield* textsOf(alice, room)
  assert.deepStrictEqual(
    texts.slice(0, 20),
    Array.from({ length: 20 }, (_, number) => `before-${number}`)
  )
  const kept = texts.slice(20)
  assert.deepStrictEqual(kept, during.slice(0, kept.length), "a backup is of one instant")
  yield* send(alice, room, "after")
  // The token is newer than the backup, so the client gets the answer of an initial sync.
  const { body } = yield* sync(alice, newer)
  const { timeline } = body.rooms.join[room]
  const last = timeline.events.at(-1)
  assert.strictEqual(last.content.body, "after")
  assert.isTrue(timeline.limited || timeline.events.length > 1)
  yield* send(alice, room, "later")
  const next = (yield* sync(alice, body.next_batch)).body.rooms.join[room].timeline.events
  assert.deepStrictEqual(
    next.map((event: { content: { body: string } }) => event.content.body),
    ["later"]
  )
})

/** Makes a restore wait right before it commits, with everything loaded. */
const holdBeforeCommit = `
  CREATE SCHEMA held;
  CREATE FUNCTION held.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() = 'DROP TABLE restore_unfinished' THEN PERFORM pg_advisory_xact_lock(42); END IF; END $$;
  CREATE EVENT TRIGGER held ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION held.wait();
  SELECT pg_advisory_lock(42)`

/**
 * Kills a restore right before its commit, which leaves a file without a row, and tables. The server does not start on them, and the next
 * restore removes them: here one of a backup without files.
 */
const killRestore = Effect.fnUntraced(function* (file: string, dataDir: string, intact: Upload) {
  const url = yield* TestDatabase.emptyUrl
  const held = new Client({ connectionString: Redacted.value(url) })
  yield* Effect.acquireRelease(
    Effect.promise(() => held.connect()),
    () => Effect.promise(() => held.end())
  )
  const ask = (sql: string) => Effect.promise(() => held.query(sql))
  yield* ask(holdBeforeCommit)
  const settings = [
    "--data-dir",
    dataDir,
    "--database-url",
    Redacted.value(url),
    "--server-name",
    GatewayProcess.serverName
  ]
  const running = yield* startGreenroom(["restore", file, ...settings])
  yield* Effect.repeat(ask("SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"), {
    schedule: Schedule.spaced("50 millis"),
    until: ({ rowCount }) => rowCount === 1
  })
  yield* running.kill
  yield* ask("DROP EVENT TRIGGER held; SELECT pg_advisory_unlock(42); DROP SCHEMA held CASCADE")
  assert.deepStrictEqual(yield* Effect.promise(() => fs.readFile(storedAt(dataDir, intact))), intact.bytes)
  assert.match(
    (yield* command(["migrate", ...settings])).error,
    /A restore into this database was interrupted: run it again/
  )
  const other = ["--data-dir", dataDir, "--database-url", Redacted.value(yield* TestDatabase.url)]
  const withoutFiles = path.join(path.dirname(file), "without-files.backup")
  const commands = [
    ["user", "create", "bob", ...other, "--server-name", GatewayProcess.serverName],
    ["backup", withoutFiles, "--without-files", ...other],
    ["restore", withoutFiles, ...settings]
  ]
  for (const args of commands) assert.strictEqual((yield* command(args)).error, "")
  assert.isFalse(existsSync(storedAt(dataDir, intact)))
  assert.isFalse(existsSync(path.join(dataDir, "restore.unfinished")))
})

/** The triggers of a database that do nothing. */
const disabledTriggers = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const client = new Client({ connectionString: Redacted.value(url) })
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.promise(() => client.end())
  )
  const { rows } = yield* Effect.promise(() => client.query("SELECT tgname FROM pg_trigger WHERE tgenabled = 'D'"))
  return rows
})

describe("greenroom backup and restore", () => {
  it.live(
    "a backup of the embedded database, made while users send messages, can be restored on another machine",
    () =>
      Effect.gen(function* () {
        const [first, second] = [yield* GatewayProcess.temporaryDirectory, yield* GatewayProcess.temporaryDirectory]
        const [from, to] = [path.join(first, "data"), path.join(second, "data")]
        const file = path.join(first, "green.backup")
        const backedUp = yield* withGateway({ dataDir: from }, (scene) => backUp(scene, file, from))
        const settings = ["--data-dir", to, "--server-name", GatewayProcess.serverName]
        const restored = yield* greenroom(["restore", file, ...settings, "--json"])
        assert.strictEqual(restored.code, 0, restored.error)
        const { files, server_name } = JSON.parse(restored.out)
        assert.deepStrictEqual([server_name, files], [GatewayProcess.serverName, { count: 1, damaged: 1 }])
        yield* withGateway({ dataDir: to }, (scene) => expectRestored(scene, backedUp))
        const again = yield* command(["restore", file, ...settings])
        assert.strictEqual(again.code, 1)
        assert.match(again.error, /postgres is there already: .* Nothing was restored\.\n$/)
      }).pipe(Effect.scoped),
    480_000
  )

  it.live(
    "a backup of an external database is restored; truncated, damaged, foreign and newer ones, and those of other servers, are refused",
    () =>
      Effect.gen(function* () {
        const directory = yield* GatewayProcess.temporaryDirectory
        const file = path.join(directory, "green.backup")
        const [from, to] = [yield* TestDatabase.url, yield* TestDatabase.emptyUrl]
        const urlOption = (url: Redacted.Redacted) => ["--database-url", Redacted.value(url)]
        const dataDir = path.join(directory, "restored")
        const backedUp = yield* withGateway({ dataDir: directory, databaseUrl: from }, (scene) =>
          backUp(scene, file, directory, [...urlOption(from), "--rate", "2M"])
        )
        const settings = [...urlOption(to), "--server-name", GatewayProcess.serverName]
        const argsOf = (name: string, options = settings) => [
          "restore",
          path.join(directory, name),
          "--data-dir",
          dataDir,
          ...options
        ]
        const errorOf = ({ code, error }: { readonly code: number | null; readonly error: string }) => {
          assert.strictEqual(code, error === "" ? 0 : 1)
          return error
        }
        const restore = (name: string, options = settings) => Effect.map(command(argsOf(name, options)), errorOf)
        const write = (name: string, bytes: Uint8Array) =>
          Effect.promise(() => fs.writeFile(path.join(directory, name), bytes))
        const whole = yield* Effect.promise(() => fs.readFile(file))
        const { mode } = yield* Effect.promise(() => fs.stat(file))
        assert.strictEqual(mode & 0o777, 0o600, "a backup has secrets")

        yield* write("short", whole.subarray(0, whole.length - 100))
        assert.match(yield* restore("short"), /short is (cut off|damaged)\. Nothing was restored\.\n$/)
        yield* write("shorter", whole.subarray(0, 40))
        assert.match(yield* restore("shorter"), /shorter is cut off\. Nothing was restored\.\n$/)
        const changed = Buffer.from(whole)
        changed[changed.length >> 1]! ^= 1
        yield* write("changed", changed)
        assert.match(yield* restore("changed"), /changed is damaged\. Nothing was restored\.\n$/)
        yield* write("foreign", Buffer.from("PGDMP and so on"))
        assert.match(yield* restore("foreign"), /foreign is not a backup of Greenroom\. Nothing was restored\.\n$/)
        yield* write("newer", Buffer.concat([Buffer.from("greenroom-backup 3\n"), whole.subarray(19)]))
        assert.match(yield* restore("newer"), /newer is a backup of a newer Greenroom/)
        assert.match(yield* restore("nothing"), /nothing is not there\. Nothing was restored\.\n$/)
        const other = yield* restore("green.backup", [...urlOption(to), "--server-name", "other.test"])
        assert.match(other, /is of the server green\.test, and the settings say other\.test/)
        assert.match(yield* restore("green.backup", [...urlOption(from), "--server-name", "green.test"]), /has tables/)
        const second = yield* command(["backup", file, "--data-dir", directory, ...urlOption(from)])
        assert.match(second.error, /is there already: a backup does not replace another one/)

        const noDirectory = yield* greenroom(argsOf("green.backup"), {
          environment: { GREENROOM_MEDIA_DIRECTORY: file }
        })
        assert.match(errorOf(noDirectory), /could not be restored: .*not a directory, .*green\.backup/)
        yield* killRestore(file, dataDir, backedUp.intact)
        assert.strictEqual(yield* restore("green.backup"), "", "the failed restores left nothing behind")
        assert.isEmpty(yield* disabledTriggers(to))
        yield* withGateway({ dataDir, databaseUrl: to }, (scene) => expectRestored(scene, backedUp))
      }).pipe(Effect.scoped),
    480_000
  )
})
