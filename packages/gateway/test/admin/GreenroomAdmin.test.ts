import { createHash } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import { BanStore } from "@greenroom/store/BanStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { as, ask, askToday, createRoom, gateway, inPath, joinRoom, logIn, register, sendText } from "../TestGateway.ts"
import { askAdmin, askGreenroom, registerAdmin } from "./TestAdmin.ts"

layer(gateway, { excludeTestServices: true })("bans", (it) => {
  it.effect("a banned user is logged out and cannot log in until the ban is lifted", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("ban-boss"), yield* register("spammer")]
      const ban = `/bans/user/${inPath(user.id)}`
      assert.strictEqual((yield* askGreenroom(user, "PUT", ban, { reason: "revenge" })).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* askGreenroom(admin, "PUT", ban, { reason: "spam" })).status, 200)
      const whoami = yield* askToday("GET", "/v3/account/whoami", { token: user.token })
      assert.strictEqual(whoami.body.errcode, "M_UNKNOWN_TOKEN")
      const refused = yield* logIn("spammer")
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
      assert.include(refused.body.error, "banned")
      const list = yield* askGreenroom(admin, "GET", "/bans")
      assert.deepInclude((list.body.bans as ReadonlyArray<object>)[0], {
        value: user.id,
        reason: "spam",
        banned_by: admin.id
      })
      assert.strictEqual((yield* askGreenroom(admin, "DELETE", ban)).status, 200)
      assert.strictEqual((yield* logIn("spammer")).status, 200)
      assert.strictEqual((yield* askGreenroom(admin, "DELETE", ban)).status, 404)
    })
  )

  it.effect("a user that the command line has banned cannot log in", () =>
    Effect.gen(function* () {
      const user = yield* register("bannedelsewhere")
      yield* BanStore.use((store) =>
        store.add({ kind: "user", value: user.id, reason: "spam", bannedBy: "command line" })
      )
      assert.strictEqual((yield* logIn("bannedelsewhere")).body.errcode, "M_FORBIDDEN")
      const { body } = yield* askToday("GET", "/v3/devices", { token: user.token })
      assert.lengthOf(body.devices as ReadonlyArray<unknown>, 1)
    })
  )

  it.effect("banned content is refused under any name, with an error that says why", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("ban-boss2"), yield* register("uploader")]
      const sha256 = createHash("sha256").update("evil").digest("hex")
      const upload = (text: string) =>
        ask("POST", "//_matrix/media/v3/upload", {
          token: user.token,
          body: text,
          headers: { "content-type": "text/plain" }
        })
      yield* askGreenroom(admin, "PUT", `/bans/sha256/${sha256.toUpperCase()}`, { reason: "illegal" })
      const refused = yield* upload("evil")
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
      assert.include(refused.body.error, "content is banned")
      assert.strictEqual((yield* upload("good")).status, 200)
      const wrong = yield* askGreenroom(admin, "PUT", "/bans/sha256/abc", { reason: "illegal" })
      assert.strictEqual(wrong.body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* askGreenroom(admin, "PUT", "/bans/server/green.test", { reason: "ours" })).status, 403)
    })
  )
})

layer(gateway, { excludeTestServices: true })("the audit log", (it) => {
  it.effect(
    "has the actions of administrators, and verification names rows that were changed, removed or inserted",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const audit = yield* AuditLog
        const [admin, user] = [yield* registerAdmin("auditor"), yield* register("watched")]
        for (let i = 0; i < 4; i++) yield* askAdmin(admin, "GET", `/v2/users/${inPath(user.id)}`)
        yield* ask("POST", `/admin/users/${inPath(user.id)}/password`, {
          token: admin.token,
          json: { new_password: "a new secret" }
        })
        yield* askToday("PUT", `/v1/admin/lock/${inPath(user.id)}`, { token: admin.token, json: { locked: true } })
        const { body } = yield* askGreenroom(admin, "GET", `/audit?target=${inPath(user.id)}`)
        const entries = body.entries as ReadonlyArray<{ readonly seq: number; readonly action: string }>
        assert.deepStrictEqual(entries.map(({ action }) => action).slice(0, 3), [
          "user.lock",
          "user.reset_password",
          "user.show"
        ])
        assert.notInclude(JSON.stringify(body), "a new secret")
        assert.strictEqual((yield* askGreenroom(yield* register("nosy"), "GET", "/audit")).body.errcode, "M_FORBIDDEN")
        yield* audit.signHead
        assert.deepStrictEqual((yield* audit.verify()).problems, [])

        const problemsAfter = Effect.fnUntraced(function* (change: Effect.Effect<unknown, unknown>) {
          let problems: ReadonlyArray<string> = []
          yield* Effect.exit(
            sql.withTransaction(
              Effect.gen(function* () {
                yield* change
                problems = (yield* audit.verify()).problems
                return yield* Effect.fail("undo")
              })
            )
          )
          return problems
        })
        const last = entries[0]!.seq
        assert.deepStrictEqual(
          yield* problemsAfter(sql`UPDATE audit_log SET actor = '@other:green.test' WHERE seq = 2`),
          ["row 2 was changed"]
        )
        assert.include(yield* problemsAfter(sql`DELETE FROM audit_log WHERE seq = 3`), "row 3 is missing")
        // The signed head reveals rows that are removed from the end.
        const removed = yield* problemsAfter(sql`DELETE FROM audit_log WHERE seq >= ${last}`)
        assert.match(removed.join(), /row \d+ is missing: the head of the log was signed at it/)
        const inserted = yield* problemsAfter(
          sql`INSERT INTO audit_log SELECT seq + 1000, at, actor, action, target, reason, details, previous, hash
            FROM audit_log WHERE seq = 2`
        )
        const [newest] = yield* audit.list({ limit: 1 })
        assert.deepStrictEqual(inserted, [`rows ${newest!.seq + 1} to 1001 are missing`, "row 1002 was changed"])
        const { body: verdict } = yield* askGreenroom(admin, "GET", "/audit/verify")
        assert.deepStrictEqual(verdict.problems, [])
      })
  )

  it.effect("has the failure of an action after the action, with the error that the administrator gets", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("failing")
      const { body } = yield* askGreenroom(admin, "DELETE", "/bans/server/absent.test")
      const audit = yield* askGreenroom(admin, "GET", "/audit?target=absent.test")
      const [failed, begun] = audit.body.entries as unknown as ReadonlyArray<Record<string, unknown>>
      assert.deepInclude(begun, { action: "ban.lift_server", actor: admin.id })
      assert.deepInclude(failed, { action: "ban.lift_server.failed", actor: admin.id, reason: body.error })
      assert.deepStrictEqual(failed!.details, { row: begun!.seq, errcode: "M_NOT_FOUND" })
      const created = yield* ask("POST", "/admin/users", { token: admin.token, json: { user: "Failing" } })
      assert.strictEqual(created.body.errcode, "M_USER_IN_USE")
      const ofUser = yield* askGreenroom(admin, "GET", `/audit?target=${inPath(admin.id)}`)
      const actions = (ofUser.body.entries as unknown as ReadonlyArray<Record<string, unknown>>).map(
        (row) => row.action
      )
      assert.deepStrictEqual(actions, ["user.create.failed", "user.create"])
    })
  )

  it.effect("verification against a head that was noted elsewhere names the row that has another hash", () =>
    Effect.gen(function* () {
      const audit = yield* AuditLog
      const noted = { seq: 1, hash: "0".repeat(64) }
      assert.deepStrictEqual((yield* audit.verify(noted)).problems, ["row 1 does not have the hash given"])
    })
  )
})

layer(gateway, { excludeTestServices: true })("the export of a user's data", (it) => {
  const parseLines = (text: string) =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly type: string; readonly [key: string]: unknown })

  it.effect("has everything that belongs to the user, and no secrets", () =>
    Effect.gen(function* () {
      const [user, other] = [yield* register("exporter"), yield* register("other")]
      const room = yield* createRoom(user)
      yield* joinRoom(other, room)
      yield* sendText(user, room, "mine")
      const theirs = yield* sendText(other, room, "theirs")
      const rest = [
        yield* as(user)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(theirs)}`, {}),
        yield* as(user)("POST", `/v3/rooms/${inPath(room)}/report/${inPath(theirs)}`, { reason: "rude" }),
        yield* as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/later?org.matrix.msc4140.delay=3600000`, {
          msgtype: "m.text",
          body: "later"
        }),
        yield* as(user)("POST", "/v3/pushers/set", {
          app_id: "org.test",
          pushkey: "push-here",
          kind: "http",
          app_display_name: "Test",
          device_display_name: "Phone",
          lang: "en",
          data: { url: "https://push.example.org/_matrix/push/v1/notify" }
        })
      ]
      assert.deepStrictEqual(
        rest.map(({ status }) => status),
        [200, 200, 200, 200]
      )
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO user_identities (provider, subject, user_id, linked_at) VALUES ('test', ${'"Ex at Test"'}, ${user.id}, 1)`
      yield* sql`
        INSERT INTO identity_bindings (user_id, medium, address, id_server)
        VALUES (${user.id}, 'email', 'ex@mail.test', 'https://id.test')`
      yield* sql`
        INSERT INTO presence (user_id, state, status_msg) VALUES (${user.id}, 'online', ${'"at work"'})
        ON CONFLICT (user_id) DO UPDATE SET status_msg = excluded.status_msg`
      yield* sql`INSERT INTO presence_lists (observer, observed, accepted) VALUES (${user.id}, ${other.id}, false)`
      yield* askToday("PUT", `/v3/profile/${inPath(user.id)}/displayname`, {
        token: user.token,
        json: { displayname: "Ex" }
      })
      yield* askToday("PUT", `/v3/user/${inPath(user.id)}/account_data/org.test`, { token: user.token, json: { a: 1 } })
      // The answer to HEAD has no lines, and no export is left behind by it.
      assert.strictEqual((yield* ask("HEAD", "//_greenroom/client/v1/export", { token: user.token })).status, 200)
      const answer = yield* ask("GET", "//_greenroom/client/v1/export", { token: user.token })
      assert.strictEqual(answer.status, 200)
      const lines = parseLines(answer.text)
      const types = new Set(lines.map(({ type }) => type))
      const expected = ["account", "profile", "device", "account_data", "membership", "event", "receipt", "report"]
      const others = ["delayed_event", "pusher", "link", "identity_binding", "presence", "presence_list"]
      for (const type of [...expected, ...others]) assert.include([...types], type)
      for (const text of ["rude", "later", "push-here", "Ex at Test", "ex@mail.test", "at work"]) {
        assert.include(answer.text, JSON.stringify(text))
      }
      assert.include(answer.text, '"mine"')
      assert.notInclude(answer.text, '"theirs"')
      assert.notInclude(answer.text, user.token)
      assert.strictEqual((yield* ask("GET", "//_greenroom/client/v1/export")).status, 401)
    })
  )

  it.effect("needs the approval of a second administrator", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [first, second] = [yield* registerAdmin("first"), yield* registerAdmin("second")]
      const user = yield* register("subject")
      assert.strictEqual((yield* askGreenroom(first, "POST", "/exports", { user_id: user.id, reason: "" })).status, 400)
      assert.strictEqual(
        (yield* askGreenroom(user, "POST", "/exports", { user_id: first.id, reason: "nosy" })).body.errcode,
        "M_FORBIDDEN"
      )
      const { body } = yield* askGreenroom(first, "POST", "/exports", { user_id: user.id, reason: "court order 17" })
      const path = `/exports/${body.export_id}`
      assert.strictEqual((yield* askGreenroom(first, "GET", path)).body.errcode, "M_FORBIDDEN")
      const twice = yield* askGreenroom(first, "POST", `${path}/approve`, { reason: "myself" })
      assert.deepStrictEqual([twice.status, twice.body.errcode], [403, "M_FORBIDDEN"])
      const [refused] = yield* AuditLog.use((audit) => audit.list({ limit: 1 }))
      assert.deepInclude(refused, { actor: first.id, action: "export.approve.failed", reason: twice.body.error })
      assert.strictEqual((yield* askGreenroom(second, "POST", `${path}/approve`, { reason: "seen" })).status, 200)
      assert.strictEqual((yield* askGreenroom(second, "GET", path)).status, 403)
      const read = yield* askGreenroom(first, "GET", path)
      const lines = parseLines(read.text)
      assert.deepInclude(lines[0] as object, { type: "header", version: 1, user_id: user.id })
      assert.deepInclude(lines[1] as object, { type: "account", user_id: user.id })
      assert.deepInclude(lines.at(-1) as object, { type: "end", parts: lines.length - 2 })
      yield* sql`UPDATE data_exports SET expires_at = 1 WHERE export_id = ${body.export_id as string}`
      assert.include((yield* askGreenroom(first, "GET", path)).body.error, "expired")

      const again = yield* askGreenroom(first, "POST", "/exports", { user_id: user.id, reason: "court order 18" })
      const idsOf = (page: typeof again) =>
        (page.body.exports as unknown as ReadonlyArray<{ readonly export_id: string }>).map((row) => row.export_id)
      const newest = yield* askGreenroom(first, "GET", "/exports?limit=1")
      assert.deepStrictEqual([idsOf(newest), newest.body.next], [[again.body.export_id], 1])
      const rest = yield* askGreenroom(first, "GET", "/exports?limit=1&from=1")
      assert.deepStrictEqual([idsOf(rest), rest.body.next], [[body.export_id], undefined])
    })
  )
})
