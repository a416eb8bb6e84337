/**
 * Backups as operators make and restore them: by the command, of a running server, into the data directory of another machine.
 */
import { createHash, randomBytes } from "node:crypto"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted, Schedule } from "effect"
import { Client } from "pg"
import { command } from "../../apps/gateway/test/support/Commands.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { greenroom, started } from "../support/Greenroom.ts"
import { type Person, type Scene, sceneOf, succeeded } from "../support/Scene.ts"

const v3 = "//_matrix/client/v3"

/** Starts a gateway, runs something with it, and ends it. */
const withGateway = <A, E, R>(options: GatewayProcess.GatewayOptions, use: (scene: Scene) => Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.flatMap(GatewayProcess.start(options), (gateway) => use(sceneOf(gateway))))

const say = (person: Person, room: string, text: string) =>
  Effect.map(
    person.ask("PUT", `${v3}/rooms/${encodeURIComponent(room)}/send/m.room.message/${text}`, {
      msgtype: "m.text",
      body: text
    }),
    (answer) => {
      succeeded(answer)
      return text
    }
  )

/** Says one thing after the other until `done` succeeds. Gives what was acknowledged. */
const sayUntil = Effect.fnUntraced(function* <A>(person: Person, room: string, name: string, done: Effect.Effect<A>) {
  const acknowledged: Array<string> = []
  const talking = Effect.forever(
    Effect.flatMap(
      Effect.suspend(() => say(person, room, `${name}-${acknowledged.length}`)),
      (text) => Effect.sync(() => acknowledged.push(text))
    )
  )
  const result = yield* Effect.raceFirst(done, talking as Effect.Effect<never>)
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

/** Random bytes, more than a frame of a backup has. */
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

/** A server with a talk that goes on while it is backed up, and after that; and a file that is well, one that is lost and one that is damaged. */
const backUp = Effect.fnUntraced(function* (
  scene: Scene,
  file: string,
  dataDir: string,
  words: ReadonlyArray<string> = []
) {
  const alice = yield* scene.register("alice")
  const [well, lost, damaged] = [yield* upload(scene, alice), yield* upload(scene, alice), yield* upload(scene, alice)]
  yield* Effect.promise(() => fs.rm(storedAt(dataDir, lost)))
  yield* Effect.promise(() => fs.writeFile(storedAt(dataDir, damaged), "rotten"))
  const created = succeeded(yield* alice.ask("POST", `${v3}/createRoom`, { name: "Green" }))
  const room: string = created.body.room_id
  for (let number = 0; number < 20; number++) yield* say(alice, room, `before-${number}`)
  const { acknowledged: during, result } = yield* sayUntil(
    alice,
    room,
    "during",
    greenroom(["backup", file, "--data-dir", dataDir, "--json", ...words])
  )
  assert.strictEqual(result.code, 0, result.error)
  assert.deepStrictEqual(JSON.parse(result.out).files, {
    count: 2,
    bytes: well.bytes.length + "rotten".length,
    missing: 1,
    damaged: 1
  })
  yield* say(alice, room, "lost-1")
  const newer = (yield* sync(alice)).body.next_batch as string
  yield* say(alice, room, "lost-2")
  return { alice, damaged, during, lost, newer, room, well }
})

/** The data that people find on the restored server. */
const expectRestored = Effect.fnUntraced(function* (
  scene: Scene,
  { alice: { token, userId }, damaged, during, lost, newer, room, well }: Effect.Success<ReturnType<typeof backUp>>
) {
  const alice = scene.person({ user_id: userId, access_token: token })
  assert.deepStrictEqual(yield* download(scene, alice, well), well.bytes)
  assert.strictEqual(yield* download(scene, alice, lost), 404)
  assert.strictEqual(yield* download(scene, alice, damaged), 404)
  const texts = yield* textsOf(alice, room)
  assert.deepStrictEqual(
    texts.slice(0, 20),
    Array.from({ length: 20 }, (_, number) => `before-${number}`)
  )
  const kept = texts.slice(20)
  assert.deepStrictEqual(kept, during.slice(0, kept.length), "a backup is of one instant")
  yield* say(alice, room, "after")
  // The token is from after the backup, so the client gets the answer of a request without one.
  const { body } = yield* sync(alice, newer)
  const { timeline } = body.rooms.join[room]
  const last = timeline.events.at(-1)
  assert.strictEqual(last.content.body, "after")
  assert.isTrue(timeline.limited || timeline.events.length > 1)
  yield* say(alice, room, "later")
  const next = (yield* sync(alice, body.next_batch)).body.rooms.join[room].timeline.events
  assert.deepStrictEqual(
    next.map((event: { content: { body: string } }) => event.content.body),
    ["later"]
  )
})

/** Makes a restore wait where it has loaded everything, right before it commits; until then it holds `transaction`. */
const holdBeforeCommit = `
  CREATE SCHEMA held;
  CREATE FUNCTION held.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() = 'DROP TABLE restore_unfinished' THEN PERFORM pg_advisory_xact_lock(42); END IF; END $$;
  CREATE EVENT TRIGGER held ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION held.wait();
  SELECT pg_advisory_lock(42)`

/**
 * A restore that is killed right before its commit leaves a file without a row, and tables. The server does not start on them, and the
 * next restore clears them away: here one of a backup without files.
 */
const killedRestore = Effect.fnUntraced(function* (file: string, dataDir: string, well: Upload) {
  const url = yield* TestDatabase.emptyUrl
  const held = new Client({ connectionString: Redacted.value(url) })
  yield* Effect.acquireRelease(
    Effect.promise(() => held.connect()),
    () => Effect.promise(() => held.end())
  )
  const ask = (sql: string) => Effect.promise(() => held.query(sql))
  yield* ask(holdBeforeCommit)
  const at = ["--data-dir", dataDir, "--database-url", Redacted.value(url), "--server-name", GatewayProcess.serverName]
  const running = yield* started(["restore", file, ...at])
  yield* Effect.repeat(ask("SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"), {
    schedule: Schedule.spaced("50 millis"),
    until: ({ rowCount }) => rowCount === 1
  })
  yield* running.kill
  yield* ask("DROP EVENT TRIGGER held; SELECT pg_advisory_unlock(42); DROP SCHEMA held CASCADE")
  assert.deepStrictEqual(yield* Effect.promise(() => fs.readFile(storedAt(dataDir, well))), well.bytes)
  assert.match((yield* command(["migrate", ...at])).error, /A restore into this database was interrupted: run it again/)
  const other = ["--data-dir", dataDir, "--database-url", Redacted.value(yield* TestDatabase.url)]
  const withoutFiles = path.join(path.dirname(file), "without-files.backup")
  const commands = [
    ["user", "list", ...other, "--server-name", GatewayProcess.serverName],
    ["backup", withoutFiles, "--without-files", ...other],
    ["restore", withoutFiles, ...at]
  ]
  for (const words of commands) assert.strictEqual((yield* command(words)).error, "")
  assert.isFalse(existsSync(storedAt(dataDir, well)))
  assert.isFalse(existsSync(path.join(dataDir, "restore.unfinished")))
})

describe("greenroom backup and restore", () => {
  it.live(
    "a backup of the embedded database, made while people talk, serves them on another machine",
    () =>
      Effect.gen(function* () {
        const [first, second] = [yield* GatewayProcess.temporaryDirectory, yield* GatewayProcess.temporaryDirectory]
        const [from, to] = [path.join(first, "data"), path.join(second, "data")]
        const file = path.join(first, "green.backup")
        const talk = yield* withGateway({ dataDir: from }, (scene) => backUp(scene, file, from))
        const place = ["--data-dir", to, "--server-name", GatewayProcess.serverName]
        const restored = yield* greenroom(["restore", file, ...place, "--json"])
        assert.strictEqual(restored.code, 0, restored.error)
        const { files, server_name } = JSON.parse(restored.out)
        assert.deepStrictEqual([server_name, files], [GatewayProcess.serverName, { count: 1, damaged: 1 }])
        yield* withGateway({ dataDir: to }, (scene) => expectRestored(scene, talk))
        const again = yield* command(["restore", file, ...place])
        assert.strictEqual(again.code, 1)
        assert.match(again.error, /postgres is there already: .* Nothing was restored\.\n$/)
      }).pipe(Effect.scoped),
    480_000
  )

  it.live(
    "a backup of an external database, with a rate; truncated, damaged, foreign, newer ones and other servers' are refused",
    () =>
      Effect.gen(function* () {
        const directory = yield* GatewayProcess.temporaryDirectory
        const file = path.join(directory, "green.backup")
        const [from, to] = [yield* TestDatabase.url, yield* TestDatabase.emptyUrl]
        const at = (url: Redacted.Redacted) => ["--database-url", Redacted.value(url)]
        const dataDir = path.join(directory, "restored")
        const talk = yield* withGateway({ dataDir: directory, databaseUrl: from }, (scene) =>
          backUp(scene, file, directory, [...at(from), "--rate", "2M"])
        )
        const own = [...at(to), "--server-name", GatewayProcess.serverName]
        const wordsOf = (name: string, words = own) => [
          "restore",
          path.join(directory, name),
          "--data-dir",
          dataDir,
          ...words
        ]
        const errorOf = ({ code, error }: { readonly code: number | null; readonly error: string }) => {
          assert.strictEqual(code, error === "" ? 0 : 1)
          return error
        }
        const restore = (name: string, words = own) => Effect.map(command(wordsOf(name, words)), errorOf)
        const write = (name: string, bytes: Uint8Array) =>
          Effect.promise(() => fs.writeFile(path.join(directory, name), bytes))
        const whole = yield* Effect.promise(() => fs.readFile(file))

        yield* write("short", whole.subarray(0, whole.length - 100))
        assert.match(yield* restore("short"), /short is (cut off|damaged)\. Nothing was restored\.\n$/)
        yield* write("shorter", whole.subarray(0, 40))
        assert.match(yield* restore("shorter"), /shorter is cut off\. Nothing was restored\.\n$/)
        const changed = Buffer.from(whole)
        changed[changed.length >> 1]! ^= 1
        yield* write("changed", changed)
        assert.match(yield* restore("changed"), /changed is damaged\. Nothing was restored\.\n$/)
        yield* write("foreign", Buffer.from("PGDMP and so on"))
        assert.match(yield* restore("foreign"), /foreign is no backup of Greenroom\. Nothing was restored\.\n$/)
        yield* write("newer", Buffer.concat([Buffer.from("greenroom-backup 3\n"), whole.subarray(19)]))
        assert.match(yield* restore("newer"), /newer is a backup of a newer Greenroom/)
        assert.match(yield* restore("nothing"), /nothing is not there\. Nothing was restored\.\n$/)
        const other = yield* restore("green.backup", [...at(to), "--server-name", "other.test"])
        assert.match(other, /is of the server green\.test, and the settings say other\.test/)
        assert.match(yield* restore("green.backup", [...at(from), "--server-name", "green.test"]), /has tables/)
        const second = yield* command(["backup", file, "--data-dir", directory, ...at(from)])
        assert.match(second.error, /is there already: a backup does not replace another one/)

        const noDirectory = yield* greenroom(wordsOf("green.backup"), { GREENROOM_MEDIA_DIRECTORY: file })
        assert.match(errorOf(noDirectory), /could not be restored: .*not a directory, .*green\.backup/)
        yield* killedRestore(file, dataDir, talk.well)
        assert.strictEqual(yield* restore("green.backup"), "", "nothing was left behind by what failed")
        yield* withGateway({ dataDir, databaseUrl: to }, (scene) => expectRestored(scene, talk))
      }).pipe(Effect.scoped),
    480_000
  )
})
