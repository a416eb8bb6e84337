import { connect } from "node:net"
import { assert, layer } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import { connect as openSocket } from "../socket/TestSocket.ts"
import { as, ask, createRoom, gateway, inPath, outcome, passwordOf, register, type TestUser } from "../TestGateway.ts"

const deactivate = (user: TestUser, name: string) =>
  Effect.map(as(user)("POST", "/v3/account/deactivate", { auth: passwordOf(name) }), ({ status }) =>
    assert.strictEqual(status, 200)
  )

/** What ends the session of a user with this name. */
const ends = {
  logout: (user: TestUser) => as(user)("POST", "/v3/logout", {}),
  deactivation: deactivate
}

/** Waits until some statement waits for a lock. */
const untilBlocked = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const blocked = sql`
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE NOT granted AND datname = current_database()`
  yield* Effect.repeat(blocked, { until: (rows) => rows.length > 0, schedule: Schedule.spaced("10 millis") })
})

/** Runs `meanwhile` while a request waits for a lock, and returns the answer to the request. */
const whileWaiting = Effect.fnUntraced(function* <A, E, R, E2, R2>(
  lock: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>,
  request: Effect.Effect<A, E, R>,
  meanwhile: Effect.Effect<unknown, E2, R2>
) {
  const sql = yield* SqlClient.SqlClient
  const asked = yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* Effect.orDie(lock(sql))
      const asked = yield* Effect.forkDetach(request)
      yield* untilBlocked
      yield* meanwhile
      return asked
    })
  )
  return yield* Fiber.join(asked)
})

/** The lock that a write takes which counts the rows of a user first. */
const counting = (key: string) => (sql: SqlClient.SqlClient) =>
  sql`SELECT pg_advisory_xact_lock(hashtextextended(${key}, 0))`

const pusher = {
  app_id: "org.example",
  pushkey: "key",
  kind: "http",
  app_display_name: "App",
  device_display_name: "Phone",
  lang: "en",
  data: { url: "https://push.example.org/_matrix/push/v1/notify" }
}

/** Requests that wait for the lock of a count, and the tables in which they store something. */
const requests = (id: string, room: string): ReadonlyArray<readonly [string, string, string, string, object]> => [
  ["account_data", "account_data", "PUT", `//_matrix/client/v3/user/${inPath(id)}/account_data/org.example`, { a: 1 }],
  ["filters", "filters", "POST", `//_matrix/client/v3/user/${inPath(id)}/filter`, { presence: { limit: 3 } }],
  ["pushers", "pushers", "POST", "//_matrix/client/v3/pushers/set", pusher],
  ["content IDs", "media", "POST", "//_matrix/media/v1/create", {}],
  [
    "delayed events",
    "delayed_events",
    "PUT",
    `//_matrix/client/unstable/org.matrix.msc4140/rooms/${inPath(room)}/delayed_event/org.example.call/t`,
    { delay_ms: 100_000, content: {} }
  ]
]

/** Sends a request whose body stays incomplete until the result is run, which returns status and error of the answer. */
const openRequest = Effect.fnUntraced(function* ({ token }: TestUser, method: string, path: string, body: string) {
  const { port } = yield* Gateway
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => connect(port, "127.0.0.1")),
    (socket) => Effect.sync(() => socket.destroy())
  )
  let text = ""
  socket.on("data", (chunk) => {
    text += chunk
  })
  const received = (pattern: RegExp) =>
    Effect.callback<RegExpExecArray>((resume) => {
      const look = () => {
        const found = pattern.exec(text)
        if (found === null) return
        socket.off("data", look)
        resume(Effect.succeed(found))
      }
      socket.on("data", look)
      look()
    })
  socket.write(
    `${method} ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\nExpect: 100-continue\r\n` +
      `Content-Length: ${body.length}\r\n\r\n`
  )
  yield* received(/^HTTP\/1\.1 100 /)
  socket.write(body.slice(0, -1))
  return Effect.gen(function* () {
    socket.write(body.slice(-1))
    const [, status, errcode] = yield* received(/HTTP\/1\.1 ([2-5]\d\d) [\s\S]*"errcode": *"(\w+)"/)
    return `${status} ${errcode}`
  })
})

const membershipOf = Effect.fnUntraced(function* (userId: string, room: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ membership: string }>`
    SELECT membership FROM memberships JOIN rooms USING (room_nid) WHERE user_id = ${userId} AND room_id = ${room}`
  return row?.membership
})

const lockMemberships = (sql: SqlClient.SqlClient) => sql`LOCK TABLE memberships IN EXCLUSIVE MODE`

layer(gateway, { excludeTestServices: true })("requests under way", (it) => {
  for (const [index, name] of ["account-data", "filter", "pusher", "content-id", "delayed-event"].entries()) {
    it.effect(`store nothing once the account is deactivated: ${name}`, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const user = yield* register(name)
        const [counted, table, method, path, json] = requests(user.id, yield* createRoom(user))[index]!
        const request = ask(method, path, { token: user.token, json })
        const answer = yield* whileWaiting(counting(`${counted} ${user.id}`), request, deactivate(user, name))
        assert.strictEqual(outcome(answer), "401 M_UNKNOWN_TOKEN")
        assert.lengthOf(yield* sql`SELECT 1 FROM ${sql(table)} WHERE user_id = ${user.id}`, 0)
      })
    )
  }

  it.effect("leave the rooms which they joined after the account was deactivated", () =>
    Effect.gen(function* () {
      const [owner, user] = [yield* register("owner"), yield* register("joiner")]
      const room = yield* createRoom(owner)
      const join = as(user)("POST", `/v3/join/${inPath(room)}`, {})
      yield* whileWaiting(lockMemberships, join, deactivate(user, "joiner"))
      yield* Effect.repeat(membershipOf(user.id, room), {
        until: (membership) => membership === "leave",
        schedule: Schedule.spaced("10 millis")
      })
    })
  )

  it.effect("leave the rooms which they joined by WebSocket after the account was deactivated", () =>
    Effect.gen(function* () {
      const [owner, user] = [yield* register("socket-owner"), yield* register("socket-joiner")]
      const room = yield* createRoom(owner)
      const socket = yield* openSocket(user, "m.json")
      const join = socket.ask(1, { method: "join", params: { room_id: room as never } })
      yield* whileWaiting(lockMemberships, join, deactivate(user, "socket-joiner"))
      yield* Effect.repeat(membershipOf(user.id, room), {
        until: (membership) => membership === "leave",
        schedule: Schedule.spaced("10 millis")
      })
    }).pipe(Effect.scoped)
  )

  it.effect("are refused if their body arrives after the session has ended", () =>
    Effect.gen(function* () {
      for (const [how, end] of Object.entries(ends)) {
        const user = yield* register(`slow-${how}`)
        const room = yield* createRoom(user)
        const client = "/_matrix/client/v3"
        const inRoom = `${client}/rooms/${inPath(room)}`
        const open = yield* Effect.forEach(
          [
            ["PUT", `${inRoom}/send/m.room.message/1`, { msgtype: "m.text", body: "late" }],
            ["PUT", `${inRoom}/state/org.example/late`, { a: 1 }],
            ["POST", `${client}/createRoom`, { name: "late" }],
            ["PUT", `${client}/profile/${inPath(user.id)}/displayname`, { displayname: "late" }],
            ["PUT", `${client}/user/${inPath(user.id)}/account_data/org.example`, { a: 1 }],
            ["PUT", `${client}/sendToDevice/org.example/1`, { messages: {} }],
            ["POST", `${client}/keys/upload`, { one_time_keys: { "signed_curve25519:A": { key: "A" } } }],
            ["PUT", `/matrix/client/api/v1/presence/${inPath(user.id)}/status`, { state: "online" }]
          ] as const,
          ([method, path, json]) => openRequest(user, method, path, JSON.stringify(json))
        )
        yield* end(user, `slow-${how}`)
        for (const finish of open) assert.strictEqual(yield* finish, "401 M_UNKNOWN_TOKEN")
      }
    }).pipe(Effect.scoped)
  )

  it.effect("are refused if others of their user kept them waiting until the session had ended", () =>
    Effect.gen(function* () {
      const user = yield* register("queued")
      const path = `/_matrix/client/v3/user/${inPath(user.id)}/account_data/org.example`
      const open = yield* Effect.forEach(Array.from({ length: 64 }), () => openRequest(user, "PUT", path, '{"a":1}'), {
        concurrency: "unbounded"
      })
      // It has no body, whose arrival would be waited for.
      const waiting = yield* Effect.forkChild(as(user)("DELETE", `/v3/profile/${inPath(user.id)}/displayname`))
      assert.strictEqual((yield* as(user)("GET", "/v3/account/whoami")).status, 200)
      yield* Accounts.use((accounts) => accounts.deactivate(user.id as UserId))
      yield* Effect.all(open, { concurrency: "unbounded" })
      assert.strictEqual(outcome(yield* Fiber.join(waiting)), "401 M_UNKNOWN_TOKEN")
    }).pipe(Effect.scoped)
  )

  it.effect("upload nothing if the file arrives after the session has ended", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const [how, end] of Object.entries(ends)) {
        const user = yield* register(`uploader-${how}`)
        const finish = yield* openRequest(user, "POST", "/_matrix/media/v3/upload", "a file")
        yield* end(user, `uploader-${how}`)
        assert.strictEqual(yield* finish, "401 M_UNKNOWN_TOKEN")
        assert.lengthOf(yield* sql`SELECT 1 FROM media WHERE user_id = ${user.id}`, 0)
      }
    }).pipe(Effect.scoped)
  )
})
