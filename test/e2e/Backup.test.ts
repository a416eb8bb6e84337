/**
 * Backups as operators make and restore them: by the command, of a server that people use, into a place on another machine.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { greenroom } from "../support/Greenroom.ts"
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

/** A server with a talk that goes on while it is backed up, and after that. */
const backUp = Effect.fnUntraced(function* (scene: Scene, file: string, words: ReadonlyArray<string>) {
  const alice = yield* scene.register("alice")
  const created = succeeded(yield* alice.ask("POST", `${v3}/createRoom`, { name: "Green" }))
  const room: string = created.body.room_id
  for (let number = 0; number < 20; number++) yield* say(alice, room, `before-${number}`)
  const { acknowledged: during, result } = yield* sayUntil(alice, room, "during", greenroom(["backup", file, ...words]))
  assert.strictEqual(result.code, 0, result.error)
  yield* say(alice, room, "lost-1")
  const newer = (yield* sync(alice)).body.next_batch as string
  yield* say(alice, room, "lost-2")
  return { alice, during, newer, room }
})

/** What people find on the restored server. */
const expectRestored = Effect.fnUntraced(function* (
  scene: Scene,
  { alice: { token, userId }, during, newer, room }: Effect.Success<ReturnType<typeof backUp>>
) {
  const alice = scene.person({ user_id: userId, access_token: token })
  const texts = yield* textsOf(alice, room)
  assert.deepStrictEqual(
    texts.slice(0, 20),
    Array.from({ length: 20 }, (_, number) => `before-${number}`)
  )
  const kept = texts.slice(20)
  assert.deepStrictEqual(kept, during.slice(0, kept.length), "a backup is of one instant")
  yield* say(alice, room, "after")
  // The token is of the time that was lost: the client gets what it would get without one.
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

describe("greenroom backup and restore", () => {
  it.live(
    "a backup of the embedded database, made while people talk, serves them on another machine",
    () =>
      Effect.gen(function* () {
        const [first, second] = [yield* GatewayProcess.temporaryDirectory, yield* GatewayProcess.temporaryDirectory]
        const [from, to] = [path.join(first, "data"), path.join(second, "data")]
        const file = path.join(first, "green.backup")
        const talk = yield* withGateway({ dataDir: from }, (scene) => backUp(scene, file, ["--data-dir", from]))
        const place = ["--data-dir", to, "--server-name", GatewayProcess.serverName]
        const restored = yield* greenroom(["restore", file, ...place, "--json"])
        assert.strictEqual(restored.code, 0, restored.error)
        assert.strictEqual(JSON.parse(restored.out).server_name, GatewayProcess.serverName)
        yield* withGateway({ dataDir: to }, (scene) => expectRestored(scene, talk))
        const again = yield* greenroom(["restore", file, ...place])
        assert.strictEqual(again.code, 1)
        assert.match(again.error, /postgres is there already: .* Nothing was restored\.\n$/)
      }).pipe(Effect.scoped),
    240_000
  )

  it.live(
    "a backup of an external database, with a rate; what is cut off, damaged, foreign, newer or another's is refused",
    () =>
      Effect.gen(function* () {
        const directory = yield* GatewayProcess.temporaryDirectory
        const file = path.join(directory, "green.backup")
        const [from, to] = [yield* TestDatabase.url, yield* TestDatabase.emptyUrl]
        const at = (url: Redacted.Redacted) => ["--data-dir", directory, "--database-url", Redacted.value(url)]
        const talk = yield* withGateway({ dataDir: directory, databaseUrl: from }, (scene) =>
          backUp(scene, file, [...at(from), "--rate", "500k"])
        )
        const own = [...at(to), "--server-name", GatewayProcess.serverName]
        const restore = (name: string, words: ReadonlyArray<string> = own) =>
          Effect.map(greenroom(["restore", path.join(directory, name), ...words]), ({ code, error }) => {
            assert.strictEqual(code, code === 0 ? 0 : 1)
            return error
          })
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
        yield* write("newer", Buffer.concat([Buffer.from("greenroom-backup 2\n"), whole.subarray(19)]))
        assert.match(yield* restore("newer"), /newer is a backup of a newer Greenroom/)
        assert.match(yield* restore("nothing"), /nothing is not there\. Nothing was restored\.\n$/)
        const other = yield* restore("green.backup", [...at(to), "--server-name", "other.test"])
        assert.match(other, /is of the server green\.test, and the settings say other\.test/)
        assert.match(yield* restore("green.backup", [...at(from), "--server-name", "green.test"]), /has tables/)
        const second = yield* greenroom(["backup", file, ...at(from)])
        assert.match(second.error, /is there already: a backup does not replace another one/)

        assert.strictEqual(yield* restore("green.backup"), "", "nothing was left behind by what was refused")
        yield* withGateway({ dataDir: directory, databaseUrl: to }, (scene) => expectRestored(scene, talk))
      }).pipe(Effect.scoped),
    240_000
  )
})
