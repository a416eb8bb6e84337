import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { AuditStore } from "@greenroom/store/AuditStore"
import { DestinationStore } from "@greenroom/store/DestinationStore"
import { Effect } from "effect"
import { ask, askToday, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"
import { askAdmin, registerAdmin } from "./TestAdmin.ts"

layer(gateway, { excludeTestServices: true })("lists for administrators", (it) => {
  it.effect("the total counts all rows, even if the page is empty", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("total-boss"), yield* register("total-user")]
      const room = yield* createRoom(user, { name: "Counted" })
      const event = yield* sendText(user, room, "noise")
      const report = `/v3/rooms/${inPath(room)}/report/${inPath(event)}`
      yield* askToday("POST", report, { token: user.token, json: { reason: "noise" } })
      const file = { token: user.token, body: "a file", headers: { "content-type": "text/plain" } }
      assert.strictEqual((yield* ask("POST", "//_matrix/media/v3/upload", file)).status, 200)
      const totals = (list: string) =>
        Effect.gen(function* () {
          const separator = list.includes("?") ? "&" : "?"
          const pages = [yield* askAdmin(admin, "GET", list)]
          for (const page of ["from=999", "limit=0"]) {
            pages.push(yield* askAdmin(admin, "GET", `${list}${separator}${page}`))
          }
          return pages.map(({ body }) => body.total ?? body.total_rooms)
        })
      assert.deepStrictEqual(yield* totals("/v2/users?name=total-"), [2, 2, 2])
      assert.deepStrictEqual(yield* totals("/v1/rooms?search_term=counted"), [1, 1, 1])
      assert.deepStrictEqual(yield* totals("/v1/event_reports?user_id=total-user"), [1, 1, 1])
      assert.deepStrictEqual(yield* totals("/v1/statistics/users/media?search_term=total-"), [1, 1, 1])
      yield* DestinationStore.use(({ failed }) => failed(ServerName.make("total.test"), "nobody there"))
      assert.deepStrictEqual(yield* totals("/v1/federation/destinations?destination=total.test"), [1, 1, 1])
    })
  )

  it.effect("uploads, and their amounts by user, are in the order that is asked for", () =>
    Effect.gen(function* () {
      const [admin, user, other] = [
        yield* registerAdmin("sort-boss"),
        yield* register("sort-ada"),
        yield* register("sort-eve")
      ]
      const upload = ({ token }: typeof user, name: string, body: string) =>
        ask("POST", `//_matrix/media/v3/upload?filename=${name}`, {
          token,
          body,
          headers: { "content-type": "text/plain" }
        })
      for (const [name, body] of [
        ["b.txt", "middle"],
        ["a.txt", "the longest"],
        ["c.txt", "short"]
      ] as const) {
        assert.strictEqual((yield* upload(user, name, body)).status, 200)
      }
      yield* upload(other, "d.txt", "a single file that is longer than those of the other user")
      const names = (query: string) =>
        Effect.map(askAdmin(admin, "GET", `/v1/users/${inPath(user.id)}/media${query}`), ({ body }) =>
          (body.media as unknown as ReadonlyArray<{ readonly upload_name: string }>).map(
            ({ upload_name }) => upload_name[0]
          )
        )
      assert.deepStrictEqual(yield* names("?order_by=upload_name"), ["a", "b", "c"])
      assert.deepStrictEqual(yield* names("?order_by=upload_name&dir=b"), ["c", "b", "a"])
      assert.deepStrictEqual(yield* names("?order_by=media_length"), ["c", "b", "a"])
      assert.deepStrictEqual(yield* names("?order_by=media_length&dir=b&limit=1"), ["a"])
      const newestFirst = yield* names("")
      assert.deepStrictEqual((yield* names("?dir=f")).toReversed(), newestFirst)
      const users = (query: string) =>
        Effect.map(askAdmin(admin, "GET", `/v1/statistics/users/media?search_term=sort-${query}`), ({ body }) =>
          (body.users as unknown as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id)
        )
      assert.deepStrictEqual(yield* users(""), [other.id, user.id])
      assert.deepStrictEqual(yield* users("&order_by=user_id"), [user.id, other.id])
      assert.deepStrictEqual(yield* users("&order_by=media_count"), [other.id, user.id])
      assert.deepStrictEqual(yield* users("&order_by=media_count&dir=b"), [user.id, other.id])
      assert.deepStrictEqual(yield* users("&until_ts=1"), [])
      assert.lengthOf(yield* users("&from_ts=1"), 2)
    })
  )

  it.effect("an unknown order is refused", () =>
    Effect.gen(function* () {
      const admin = yield* registerAdmin("order-boss")
      const own = `/v1/users/${inPath(admin.id)}/media`
      for (const list of ["/v1/statistics/users/media", own]) {
        assert.strictEqual((yield* askAdmin(admin, "GET", `${list}?order_by=nothing`)).body.errcode, "M_INVALID_PARAM")
      }
      for (const list of ["/v1/rooms", "/v2/users", "/v1/federation/destinations"]) {
        for (const order of ["nothing", "__proto__", "constructor"]) {
          const refused = yield* askAdmin(admin, "GET", `${list}?order_by=${order}`)
          assert.deepStrictEqual([refused.status, refused.body.errcode], [400, "M_INVALID_PARAM"], `${list} ${order}`)
        }
        const named = list === "/v1/federation/destinations" ? "retry_interval" : "name"
        assert.strictEqual((yield* askAdmin(admin, "GET", `${list}?order_by=${named}`)).status, 200, list)
      }
    })
  )

  it.effect("reads of administrators are in the audit log, for every API", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("audited-boss"), yield* register("audited-user")]
      const room = yield* createRoom(user, { preset: "private_chat" })
      const { token } = admin
      const answers = [
        yield* ask("GET", "/admin/destinations", { token }),
        yield* askToday("GET", `/v3/admin/whois/${inPath(user.id)}`, { token }),
        yield* askToday("GET", `/v1/admin/lock/${inPath(user.id)}`, { token }),
        yield* askToday("GET", `/v3/rooms/${inPath(room)}/aliases`, { token })
      ]
      for (const { status, text } of answers) assert.strictEqual(status, 200, text)
      assert.strictEqual(
        (yield* askToday("GET", `/v3/admin/whois/${inPath(user.id)}`, { token: user.token })).status,
        200
      )
      const { list } = yield* AuditStore
      const actionsOf = (actor: string) =>
        Effect.map(list({ limit: 10, actor }), (entries) => entries.map(({ action, target }) => [action, target]))
      assert.deepStrictEqual(yield* actionsOf(admin.id), [
        ["room.aliases", room],
        ["user.show", user.id],
        ["user.whois", user.id],
        ["destination.list", undefined]
      ])
      assert.deepStrictEqual(yield* actionsOf(user.id), [])
    })
  )
})
