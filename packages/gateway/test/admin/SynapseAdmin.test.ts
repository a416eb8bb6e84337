import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { AuditStore } from "@greenroom/store/AuditStore"
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  as,
  asDraft,
  ask,
  askToday,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  logIn,
  outcome,
  register,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { askAdmin, registerAdmin, repeatUntil } from "./TestAdmin.ts"

/** The tables that have rows of a room. */
const tablesOf = Effect.fnUntraced(function* (roomNid: bigint) {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql<{ name: string }>`
    SELECT relname AS name FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relkind = 'r' AND attname = 'room_nid' AND relnamespace = 'public'::regnamespace ORDER BY name`
  const withRows = yield* Effect.filter(tables, ({ name }) =>
    Effect.map(sql`SELECT 1 FROM ${sql(name)} WHERE room_nid = ${roomNid} LIMIT 1`, (rows) => rows.length > 0)
  )
  return withRows.map(({ name }) => name)
})

layer(gateway, { excludeTestServices: true })("Synapse's administration API", (it) => {
  it.effect("lists, creates, changes and deactivates accounts", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss1")
      const version = yield* askAdmin(admin, "GET", "/v1/server_version")
      assert.match(version.body.server_version as string, /^Greenroom /)
      const path = `/v2/users/${inPath("@made:green.test")}`
      const made = yield* askAdmin(admin, "PUT", path, { password: "first-password", displayname: "Made" })
      assert.deepInclude(made.body as object, { name: "@made:green.test", displayname: "Made", admin: false })
      const { body: login } = yield* logIn("made", "first-password")
      const kept = yield* askAdmin(admin, "PUT", path, {
        password: "second-password",
        logout_devices: false,
        admin: true
      })
      assert.strictEqual(kept.body.admin, true)
      const whoami = () => askToday("GET", "/v3/account/whoami", { token: login.access_token })
      assert.strictEqual((yield* whoami()).status, 200)
      const list = yield* askAdmin(admin, "GET", "/v2/users?name=MAD&limit=5")
      assert.deepStrictEqual(
        [list.body.total, (list.body.users as ReadonlyArray<{ name: string }>)[0]?.name],
        [1, "@made:green.test"]
      )
      const [listed] = list.body.users as ReadonlyArray<{ creation_ts: number }>
      assert.strictEqual(Math.floor(listed!.creation_ts / 1_000), made.body.creation_ts)
      const admins = yield* askAdmin(admin, "GET", "/v2/users?admins=true&limit=1&order_by=creation_ts&dir=b")
      assert.strictEqual(admins.body.next_token, "1")
      const devices = yield* askAdmin(admin, "GET", `${path}/devices`)
      assert.strictEqual(devices.body.total, 1)
      const reset = `/v1/reset_password/${inPath("@made:green.test")}`
      yield* askAdmin(admin, "POST", reset, { new_password: "third-password", logout_devices: false })
      assert.strictEqual((yield* whoami()).status, 200)
      yield* askAdmin(admin, "POST", `${path}/delete_devices`, { devices: [login.device_id] })
      assert.strictEqual((yield* whoami()).body.errcode, "M_UNKNOWN_TOKEN")
      const { body: again } = yield* logIn("made", "third-password")
      yield* askAdmin(admin, "POST", reset, { new_password: "third-password" })
      const ended = yield* askToday("GET", "/v3/account/whoami", { token: again.access_token })
      assert.strictEqual(ended.body.errcode, "M_UNKNOWN_TOKEN", "a new password ends the sessions by default")
      const taken = yield* askAdmin(admin, "GET", "/v1/username_available?username=made")
      assert.strictEqual(taken.body.errcode, "M_USER_IN_USE")
      const free = yield* askAdmin(admin, "GET", "/v1/username_available?username=nobody-yet")
      assert.strictEqual(free.body.available, true)
      yield* askAdmin(admin, "POST", `/v1/deactivate/${inPath("@made:green.test")}`, { erase: true })
      assert.deepInclude((yield* askAdmin(admin, "GET", path)).body as object, { deactivated: true, erased: true })
      assert.strictEqual((yield* logIn("made", "second-password")).status, 403)
      const audit = yield* AuditStore.use(({ list }) => list({ limit: 50, target: "@made:green.test" }))
      assert.include(
        audit.map(({ action }) => action),
        "user.set"
      )
      assert.notMatch(JSON.stringify(audit), /(first|second|third)-password/, "passwords are not recorded")
      const suspended = yield* askAdmin(admin, "PUT", `/v1/suspend/${inPath(admin.id)}`, { suspend: true })
      assert.strictEqual(suspended.body.errcode, "M_FORBIDDEN")
      const self = yield* askAdmin(admin, "PUT", `/v1/users/${inPath(admin.id)}/admin`, { admin: false })
      assert.strictEqual(self.body.errcode, "M_FORBIDDEN")
      const nobody = yield* askAdmin(admin, "GET", `/v2/users/${inPath("@nobody:green.test")}`)
      assert.strictEqual(nobody.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("replaces the addresses and external IDs of an account, and takes none of another account", () =>
    Effect.gen(function* () {
      const [admin, mia, max] = [yield* registerAdmin("boss12"), yield* register("mirja"), yield* register("max")]
      const put = (user: TestUser, json: object) => askAdmin(admin, "PUT", `/v2/users/${inPath(user.id)}`, json)
      const email = (address: string) => ({ medium: "email", address })
      const externalId = { auth_provider: "example", external_id: "4711" }
      const made = yield* put(mia, {
        threepids: [email("Mirja@Mail.test"), email("m@mail.test")],
        external_ids: [externalId]
      })
      assert.deepStrictEqual(
        (made.body.threepids as ReadonlyArray<{ address: string }>).map(({ address }) => address),
        ["m@mail.test", "mirja@mail.test"]
      )
      assert.deepStrictEqual(made.body.external_ids, [externalId] as never)
      const owner = () => askAdmin(admin, "GET", "/v1/threepid/email/users/mirja@mail.test")
      assert.strictEqual((yield* owner()).body.user_id, mia.id)
      assert.strictEqual((yield* put(max, { threepids: [email("mirja@mail.test")] })).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* put(max, { threepids: [email("nothing")] })).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* owner()).body.user_id, mia.id)
      yield* put(mia, { threepids: [], external_ids: [] })
      assert.strictEqual((yield* owner()).status, 404)
      const room = yield* createRoom(mia, { room_alias_name: "mirjas" })
      const aliases = (user: TestUser) => as(user)("GET", `/v3/rooms/${inPath(room)}/aliases`)
      assert.deepStrictEqual((yield* aliases(admin)).body.aliases, ["#mirjas:green.test"] as never)
      assert.strictEqual((yield* aliases(max)).status, 403)
    })
  )

  it.effect("logs in as a user, with a device that the user sees, but not as another administrator", () =>
    Effect.gen(function* () {
      const [admin, second, user] = [
        yield* registerAdmin("boss2"),
        yield* registerAdmin("boss3"),
        yield* register("uta")
      ]
      const made = yield* askAdmin(admin, "POST", `/v1/users/${inPath(user.id)}/login`, {})
      const whoami = yield* askToday("GET", "/v3/account/whoami", { token: made.body.access_token })
      assert.strictEqual(whoami.body.user_id, user.id)
      const devices = yield* askToday("GET", "/v3/devices", { token: user.token })
      assert.include(devices.text, "An administrator")
      const refused = yield* askAdmin(admin, "POST", `/v1/users/${inPath(second.id)}/login`, {})
      assert.strictEqual(refused.body.errcode, "M_FORBIDDEN")
      const audit = yield* AuditStore.use(({ list }) => list({ limit: 5, target: user.id }))
      assert.deepInclude(audit[0] as object, { actor: admin.id, action: "user.log_in_as" })
    })
  )

  it.effect("shows rooms, their members and their state to administrators who are not members", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("boss4"), yield* register("ria")]
      const room = yield* createRoom(user, { name: "Ria's parlour", room_alias_name: "parlour" })
      const list = yield* askAdmin(admin, "GET", "/v1/rooms?search_term=parlour")
      assert.strictEqual(list.body.total_rooms, 1)
      assert.deepInclude((list.body.rooms as ReadonlyArray<object>)[0], {
        room_id: room,
        name: "Ria's parlour",
        joined_members: 1,
        joined_local_members: 1,
        creator: user.id,
        public: true
      })
      const members = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath(room)}/members`)
      assert.deepStrictEqual(members.body.members, [user.id])
      const state = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath(room)}/state`)
      assert.include(
        (state.body.state as ReadonlyArray<{ type: string }>).map(({ type }) => type),
        "m.room.power_levels"
      )
      const count = (state.body.state as ReadonlyArray<object>).length
      assert.strictEqual((list.body.rooms as ReadonlyArray<{ state_events: number }>)[0]!.state_events, count)
      assert.strictEqual((yield* askAdmin(admin, "GET", `/v1/rooms/${inPath(room)}`)).body.state_events, count)
      const extremities = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath(room)}/forward_extremities`)
      assert.strictEqual(extremities.body.count, 1)
      const joined = yield* askAdmin(admin, "GET", `/v1/users/${inPath(user.id)}/joined_rooms`)
      assert.deepStrictEqual(joined.body.joined_rooms, [room])
      const missing = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath("!none:green.test")}`)
      assert.strictEqual(missing.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("gives an administrator power in a private room that they have not joined", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("boss5"), yield* register("rob")]
      const { body } = yield* askToday("POST", "/v3/createRoom", {
        token: user.token,
        json: { preset: "private_chat", room_version: "11" }
      })
      const made = yield* askAdmin(admin, "POST", `/v1/rooms/${inPath(body.room_id)}/make_room_admin`, {})
      assert.deepStrictEqual([made.status, made.body], [200, {} as never])
      assert.strictEqual((yield* joinRoom(admin, body.room_id)).status, 200)
      const named = yield* askToday("PUT", `/v3/rooms/${inPath(body.room_id)}/state/m.room.name`, {
        token: admin.token,
        json: { name: "taken over" }
      })
      assert.strictEqual(named.status, 200)
      const own = yield* askToday("POST", "/v3/createRoom", { token: user.token, json: { room_version: "12" } })
      const creator = `/v1/rooms/${inPath(own.body.room_id)}/make_room_admin`
      assert.strictEqual((yield* askAdmin(admin, "POST", creator, { user_id: user.id })).status, 200)
    })
  )

  it.effect("removes, blocks and purges a room, of which no row is left", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [admin, owner, guest] = [yield* registerAdmin("boss6"), yield* register("owen"), yield* register("gil")]
      const room = yield* createRoom(owner, { room_alias_name: "bad" })
      yield* joinRoom(guest, room)
      const sent = yield* sendText(guest, room, "one")
      yield* sendText(owner, room, "two")
      const rows = yield* sql<{ room_nid: bigint }>`SELECT room_nid FROM rooms WHERE room_id = ${room}`
      const nid = rows[0]!.room_nid
      assert.includeMembers([...(yield* tablesOf(nid))], ["events", "memberships", "rooms", "state_chains"])
      const started = yield* askAdmin(admin, "DELETE", `/v2/rooms/${inPath(room)}`, {
        block: true,
        purge: true,
        new_room_user_id: admin.id,
        message: "Not here."
      })
      const status = askAdmin(admin, "GET", `/v2/rooms/delete_status/${started.body.delete_id}`)
      const { body: done } = yield* repeatUntil(
        status,
        ({ body }) => body.status === "complete" || body.status === "failed"
      )
      assert.deepInclude(done as object, { status: "complete" })
      const ofRoom = `/v2/rooms/${inPath(room)}/delete_status`
      const { body: page } = yield* askAdmin(admin, "GET", `${ofRoom}?limit=1`)
      assert.deepStrictEqual([page.results, page.next_token], [[done], undefined])
      assert.strictEqual((yield* askAdmin(admin, "GET", `${ofRoom}?from=1`)).status, 404)
      // Synapse answers all removals at once, and its tools read no second page.
      yield* sql`
        INSERT INTO room_removals (removal_id, kind, room_id, requested_by, options, status, result, created_at, finished_at)
        SELECT 'earlier' || n, kind, room_id, requested_by, options, status, result, n, n
        FROM room_removals, generate_series(1, 150) AS n WHERE removal_id = ${started.body.delete_id as string}`
      const { body: all } = yield* askAdmin(admin, "GET", ofRoom)
      assert.lengthOf(all.results as ReadonlyArray<unknown>, 151)
      assert.isUndefined(all.next_token)
      const result = done.shutdown_room as { readonly [key: string]: unknown }
      assert.sameMembers(result.kicked_users as Array<string>, [owner.id, guest.id])
      assert.deepStrictEqual(result.local_aliases, ["#bad:green.test"])

      for (const user of [owner, guest]) {
        const { body } = yield* askToday("GET", "/v3/joined_rooms", { token: user.token })
        assert.deepStrictEqual(body.joined_rooms, [result.new_room_id])
        const refused = [
          yield* as(user)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b`),
          yield* as(user)("GET", `/v3/rooms/${inPath(room)}/state`),
          yield* as(user)("GET", `/v3/rooms/${inPath(room)}/members`),
          yield* sendEvent(user, room, { msgtype: "m.text", body: "three" }),
          yield* joinRoom(user, room)
        ]
        for (const answer of refused) assert.strictEqual(outcome(answer), "403 M_FORBIDDEN")
        const missing = [
          yield* as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(sent)}`),
          yield* asDraft(user)("GET", `/events/${inPath(sent)}`)
        ]
        for (const answer of missing) assert.strictEqual(outcome(answer), "404 M_NOT_FOUND")
        const sync = yield* askToday("GET", "/v3/sync", { token: user.token })
        assert.notInclude(sync.text, room)
      }
      assert.strictEqual(
        (yield* askToday("GET", `/v3/directory/room/${inPath("#bad:green.test")}`)).body.errcode,
        "M_NOT_FOUND"
      )
      assert.deepStrictEqual(yield* tablesOf(nid), [])
      // Rows of state chains and of auth edges name the room by their chain and event.
      const deltas = yield* sql`
        SELECT 1 FROM state_deltas WHERE NOT EXISTS (SELECT 1 FROM state_chains WHERE state_chains.chain = state_deltas.chain)`
      assert.lengthOf(deltas, 0)
      const auth = yield* sql`
        SELECT 1 FROM event_auth WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.nid = event_auth.event_nid)`
      assert.lengthOf(auth, 0)

      const block = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath(room)}/block`)
      assert.deepStrictEqual(block.body, { block: true, user_id: admin.id } as never)
      const audit = yield* AuditStore.use(({ list }) => list({ limit: 50, target: room }))
      assert.include(
        audit.map(({ action }) => action),
        "room.delete"
      )
    })
  )

  it.effect("blocks a room, which can then be left and not joined until the block ends", () =>
    Effect.gen(function* () {
      const [admin, owner, guest] = [yield* registerAdmin("boss7"), yield* register("ole"), yield* register("gus")]
      const member = yield* register("mo")
      const room = yield* createRoom(owner)
      yield* joinRoom(member, room)
      yield* askAdmin(admin, "PUT", `/v1/rooms/${inPath(room)}/block`, { block: true })
      assert.strictEqual((yield* as(member)("POST", `/v3/rooms/${inPath(room)}/leave`, {})).status, 200)
      assert.strictEqual((yield* joinRoom(guest, room)).body.errcode, "M_FORBIDDEN")
      yield* askAdmin(admin, "PUT", `/v1/rooms/${inPath(room)}/block`, { block: false })
      assert.strictEqual((yield* joinRoom(guest, room)).status, 200)
    })
  )

  it.effect("purges the history before an event, and keeps the state and later events", () =>
    Effect.gen(function* () {
      const [admin, user, friend] = [yield* registerAdmin("boss8"), yield* register("hal"), yield* register("fran")]
      const room = yield* createRoom(user)
      yield* joinRoom(friend, room)
      yield* sendText(friend, room, "old", { "m.mentions": { user_ids: [user.id] } })
      const sync = askToday("GET", "/v3/sync", { token: user.token })
      assert.include((yield* sync).text, '"highlight_count":1')
      const kept = yield* sendText(user, room, "kept")
      const begun = yield* askAdmin(admin, "POST", `/v1/purge_history/${inPath(room)}/${inPath(kept)}`, {
        delete_local_events: true
      })
      const status = askAdmin(admin, "GET", `/v1/purge_history_status/${begun.body.purge_id}`)
      assert.strictEqual((yield* repeatUntil(status, ({ body }) => body.status !== "active")).body.status, "complete")
      const messages = yield* askToday("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&limit=50`, {
        token: user.token
      })
      assert.include(messages.text, '"kept"')
      assert.notInclude(messages.text, '"old"')
      assert.include(messages.text, "m.room.create")
      assert.notInclude((yield* sync).text, '"highlight_count":1')
      assert.isString(yield* sendText(user, room, "new"))
      const none = yield* askAdmin(admin, "POST", `/v1/purge_history/${inPath(room)}`, { purge_up_to_ts: 1 })
      assert.strictEqual(none.body.errcode, "M_NOT_FOUND")
      const missing = yield* askAdmin(admin, "POST", `/v1/purge_history/${inPath(room)}`, {})
      assert.strictEqual(missing.body.errcode, "M_BAD_JSON")
    })
  )

  it.effect("lists, quarantines and removes media of users and rooms", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("boss9"), yield* register("mia")]
      const upload = Effect.fnUntraced(function* (text: string) {
        const { body } = yield* ask("POST", "//_matrix/media/v3/upload?filename=a.txt", {
          token: user.token,
          body: text,
          headers: { "content-type": "text/plain" }
        })
        return body.content_uri as string
      })
      const [first, second] = [yield* upload("first"), yield* upload("second")]
      const room = yield* createRoom(user)
      yield* sendEvent(user, room, { msgtype: "m.file", body: "a", url: first })
      const inRoom = yield* askAdmin(admin, "GET", `/v1/room/${inPath(room)}/media`)
      assert.deepStrictEqual(inRoom.body, { local: [first], remote: [] } as never)
      const path = (uri: string) => uri.slice("mxc://".length)
      const download = (uri: string) => askToday("GET", `/v1/media/download/${path(uri)}`, { token: user.token })
      assert.strictEqual((yield* download(first)).status, 200)
      const quarantined = yield* askAdmin(admin, "POST", `/v1/room/${inPath(room)}/media/quarantine`, {})
      assert.strictEqual(quarantined.body.num_quarantined, 1)
      assert.strictEqual((yield* download(first)).status, 404)
      yield* askAdmin(admin, "POST", `/v1/media/unquarantine/${path(first)}`, {})
      assert.strictEqual((yield* download(first)).status, 200)
      const ids = [first, second].map((uri) => uri.slice("mxc://green.test/".length))
      yield* askAdmin(admin, "POST", `/v1/media/protect/${ids[0]}`, {})
      const refused = yield* askAdmin(admin, "POST", `/v1/media/quarantine/${path(first)}`, {})
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
      const ofUser = yield* askAdmin(admin, "POST", `/v1/user/${inPath(user.id)}/media/quarantine`, {})
      assert.strictEqual(ofUser.body.num_quarantined, 1)
      const removed = yield* askAdmin(admin, "POST", `/v1/media/delete?before_ts=${Date.now() + 60_000}`, {})
      assert.strictEqual(removed.body.total, 0)
      const shown = yield* askAdmin(admin, "GET", `/v1/users/${inPath(user.id)}/media`)
      const flags = (shown.body.media as ReadonlyArray<Record<string, unknown>>).map((row) => [
        row.media_id,
        row.safe_from_quarantine,
        row.quarantined_by
      ])
      assert.sameDeepMembers(flags, [
        [ids[0], true, null],
        [ids[1], false, admin.id]
      ])
      yield* askAdmin(admin, "POST", `/v1/media/unprotect/${ids[0]}`, {})
      yield* askAdmin(admin, "POST", `/v1/media/unquarantine/${path(second)}`, {})
      const noFile = yield* askAdmin(admin, "POST", "/v1/media/protect/none", {})
      assert.strictEqual(noFile.body.errcode, "M_NOT_FOUND")
      const usage = yield* askAdmin(admin, "GET", "/v1/statistics/users/media?search_term=mia")
      assert.deepInclude((usage.body.users as ReadonlyArray<object>)[0], { media_count: 2, media_length: 11 })
      const list = yield* askAdmin(admin, "GET", `/v1/users/${inPath(user.id)}/media?limit=1`)
      assert.deepStrictEqual([list.body.total, list.body.next_token], [2, 1])
      assert.strictEqual((yield* askAdmin(admin, "DELETE", `/v1/media/${path(second)}`)).body.total, 1)
      assert.strictEqual((yield* download(second)).status, 404)
      const old = yield* askAdmin(admin, "POST", `/v1/media/delete?before_ts=${Date.now() + 60_000}`, {})
      assert.strictEqual(old.body.total, 1)
    })
  )

  it.effect("creates, lists, changes and deletes registration tokens", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("boss10")
      const made = yield* askAdmin(admin, "POST", "/v1/registration_tokens/new", {
        token: "open-sesame",
        uses_allowed: 3
      })
      assert.deepInclude(made.body as object, { token: "open-sesame", uses_allowed: 3, completed: 0 })
      const validity = (token: string) =>
        askToday("GET", `/v1/register/m.login.registration_token/validity?token=${token}`)
      assert.deepStrictEqual((yield* validity("open-sesame")).body, { valid: true } as never)
      assert.deepStrictEqual((yield* validity("guess")).body, { valid: false } as never)
      const noToken = yield* askToday("GET", "/v1/register/m.login.registration_token/validity")
      assert.strictEqual(noToken.body.errcode, "M_MISSING_PARAM")
      const short = yield* askAdmin(admin, "POST", "/v1/registration_tokens/new", { token: "a1" })
      assert.strictEqual(short.body.token, "a1")
      assert.deepStrictEqual((yield* validity("a1")).body, { valid: true } as never)
      const four = yield* askAdmin(admin, "POST", "/v1/registration_tokens/new", { length: 4 })
      assert.match(four.body.token as string, /^.{4}$/)
      for (const { body } of [short, four]) {
        assert.strictEqual((yield* askAdmin(admin, "DELETE", `/v1/registration_tokens/${body.token}`)).status, 200)
      }
      const past = { expiry_time: Date.now() - 1_000 }
      for (const refused of [
        yield* askAdmin(admin, "POST", "/v1/registration_tokens/new", past),
        yield* askAdmin(admin, "PUT", "/v1/registration_tokens/open-sesame", past)
      ]) {
        assert.strictEqual(refused.body.errcode, "M_INVALID_PARAM")
      }
      const changed = yield* askAdmin(admin, "PUT", "/v1/registration_tokens/open-sesame", { uses_allowed: 0 })
      assert.strictEqual(changed.body.uses_allowed, 0)
      const valid = yield* askAdmin(admin, "GET", "/v1/registration_tokens?valid=true")
      assert.deepStrictEqual(valid.body.registration_tokens, [])
      assert.strictEqual((yield* askAdmin(admin, "DELETE", "/v1/registration_tokens/open-sesame")).status, 200)
      const gone = yield* askAdmin(admin, "GET", "/v1/registration_tokens/open-sesame")
      assert.strictEqual(gone.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("shows reports of users until they are resolved", () =>
    Effect.gen(function* () {
      const [admin, user, other] = [yield* registerAdmin("boss11"), yield* register("rex"), yield* register("oda")]
      const room = yield* createRoom(user)
      yield* joinRoom(other, room)
      const sent = yield* sendText(user, room, "rude")
      yield* as(other)("POST", `/v3/rooms/${inPath(room)}/report/${inPath(sent)}`, { reason: "rude" })
      const list = yield* askAdmin(admin, "GET", `/v1/event_reports?room_id=${inPath(room)}`)
      const [report] = list.body.event_reports as ReadonlyArray<{
        readonly id: number
        readonly [key: string]: unknown
      }>
      assert.deepInclude(report, { event_id: sent, user_id: other.id, sender: user.id, reason: "rude" })
      const shown = yield* askAdmin(admin, "GET", `/v1/event_reports/${report!.id}`)
      assert.include(shown.text, '"body":"rude"')
      assert.strictEqual((yield* askAdmin(admin, "DELETE", `/v1/event_reports/${report!.id}`)).status, 200)
      assert.strictEqual((yield* askAdmin(admin, "GET", `/v1/event_reports/${report!.id}`)).status, 404)
    })
  )

  it.effect("lists destinations with their errors and shared rooms, and resets their back-off", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("destinations")
      const { failed } = yield* DestinationStore
      yield* failed(ServerName.make("lost.test"), "nobody there")
      const path = "/v1/federation/destinations"
      const { body: found } = yield* askAdmin(admin, "GET", `${path}?destination=lost`)
      const [lost] = (found as unknown as { destinations: ReadonlyArray<Record<string, unknown>> }).destinations
      assert.deepInclude(lost, { destination: "lost.test", failures: 1, last_error: "nobody there" })
      assert.isAbove(lost!.retry_interval as number, 0)
      const reset = yield* askAdmin(admin, "POST", `${path}/lost.test/reset_connection`, {})
      assert.strictEqual(reset.status, 200, reset.text)
      const { body: after } = yield* askAdmin(admin, "GET", `${path}/lost.test`)
      assert.strictEqual((after as unknown as Record<string, unknown>).retry_interval, 0)
      assert.strictEqual((yield* askAdmin(admin, "GET", `${path}/unknown.test`)).status, 404)
      const sql = yield* SqlClient.SqlClient
      const user = yield* register("neighbour")
      const room = yield* createRoom(user)
      yield* createRoom(user)
      yield* sql`
        INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
        SELECT room_nid, '@far:lost.test', 'join', '@far:lost.test', event_nid FROM memberships
        JOIN rooms USING (room_nid) WHERE room_id = ${room}`
      const rooms = yield* askAdmin(admin, "GET", `${path}/lost.test/rooms`)
      assert.deepStrictEqual<unknown>(rooms.body, { rooms: [{ room_id: room, stream_ordering: null }], total: 1 })
    })
  )
})
