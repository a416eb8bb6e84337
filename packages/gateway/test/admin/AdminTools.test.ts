/** What moderation bots (Draupnir, Mjolnir) and ketesa read of Synapse's administration API. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { type Answer, as, createRoom, gateway, inPath, joinRoom, register, sendText } from "../TestGateway.ts"
import { askAdmin, askGreenroom, registerAdmin } from "./TestAdmin.ts"

layer(gateway, { excludeTestServices: true })("the administration API for moderation bots and ketesa", (it) => {
  it.effect("lists reports of events, of users and of rooms apart", () =>
    Effect.gen(function* () {
      const [admin, user, other] = [yield* registerAdmin("boss13"), yield* register("ria"), yield* register("ole")]
      const room = yield* createRoom(user)
      yield* joinRoom(other, room)
      const sent = yield* sendText(user, room, "rude")
      const paths = [
        `rooms/${inPath(room)}/report/${inPath(sent)}`,
        `rooms/${inPath(room)}/report`,
        `users/${inPath(user.id)}/report`
      ]
      for (const path of paths) {
        assert.strictEqual((yield* as(other)("POST", `/v3/${path}`, { reason: path })).status, 200, path)
      }
      type Reports = ReadonlyArray<{ readonly id: number; readonly [field: string]: unknown }>
      const reporter = `user_id=${inPath(other.id)}`
      const list = (path: string, field: "event_reports" | "user_reports") =>
        Effect.map(
          askAdmin(admin, "GET", `/v1/${path}?${reporter}`),
          ({ body }) => [body.total, body[field as never]] as unknown as [number, Reports]
        )
      const [events, [ofEvent]] = yield* list("event_reports", "event_reports")
      assert.strictEqual(events, 1)
      assert.deepInclude(ofEvent, { event_id: sent, room_id: room, sender: user.id, user_id: other.id })
      const [users, [ofUser]] = yield* list("user_reports", "user_reports")
      assert.strictEqual(users, 1)
      assert.deepInclude(ofUser, { target_user_id: user.id, user_id: other.id, reason: paths[2] })
      const shown = yield* askAdmin(admin, "GET", `/v1/user_reports/${ofUser!.id}`)
      assert.deepStrictEqual(shown.body as object, ofUser as object)
      for (const wrong of [`event_reports/${ofUser!.id}`, `user_reports/${ofEvent!.id}`]) {
        for (const method of ["GET", "DELETE"]) {
          assert.strictEqual((yield* askAdmin(admin, method, `/v1/${wrong}`)).body.errcode, "M_NOT_FOUND")
        }
      }
      const all = yield* askGreenroom(admin, "GET", "/reports")
      const mine = (all.body.reports as unknown as Reports).filter(({ user_id }) => user_id === other.id)
      assert.deepStrictEqual(
        mine.map(({ reason }) => reason),
        paths.toReversed()
      )
      assert.strictEqual((yield* askAdmin(admin, "DELETE", `/v1/user_reports/${ofUser!.id}`)).status, 200)
      for (const { id } of mine.filter(({ id }) => id !== ofUser!.id)) {
        assert.strictEqual((yield* askGreenroom(admin, "DELETE", `/reports/${id}`)).status, 200)
      }
      assert.strictEqual((yield* askGreenroom(admin, "DELETE", `/reports/${ofEvent!.id}`)).status, 404)
    })
  )

  it.effect("shows administrators the rooms of a space, private ones too, in pages, and others nothing", () =>
    Effect.gen(function* () {
      const [admin, user] = [yield* registerAdmin("space-boss"), yield* register("space-rosa")]
      const made = (json: object) => Effect.map(as(user)("POST", "/v3/createRoom", json), ({ body }) => body.room_id)
      const space = yield* made({ creation_content: { type: "m.space" } })
      const rooms = [yield* made({ name: "A" }), yield* made({ name: "B" })]
      for (const child of [...rooms, "!elsewhere:red.test"]) {
        const content = { via: ["green.test"], order: child === rooms[0] ? "a" : "b" }
        yield* as(user)("PUT", `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(child)}`, content)
      }
      const ask = (query: string, of: string = space) =>
        askAdmin(admin, "GET", `/v1/rooms/${inPath(of)}/hierarchy${query}`)
      const idsOf = ({ body }: Answer) =>
        (body.rooms as unknown as ReadonlyArray<{ readonly room_id: string }>).map(({ room_id }) => room_id)
      assert.deepStrictEqual(idsOf(yield* ask("")), [space, ...rooms])
      assert.deepStrictEqual(idsOf(yield* ask("?max_depth=0")), [space])
      const first = yield* ask("?limit=2")
      assert.deepStrictEqual(idsOf(first), [space, rooms[0]!])
      assert.deepStrictEqual(idsOf(yield* ask(`?limit=2&from=${first.body.next_batch}`)), [rooms[1]!])
      assert.strictEqual((yield* ask("", "!none:green.test")).body.errcode, "M_NOT_FOUND")
      const { body } = yield* as(admin)("GET", `/v1/rooms/${inPath(space)}/hierarchy`)
      assert.strictEqual(body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* askAdmin(user, "GET", `/v1/rooms/${inPath(space)}/hierarchy`)).status, 403)
    })
  )

  it.effect("shows administrators the messages of rooms they are not in, and others nothing", () =>
    Effect.gen(function* () {
      const [admin, user, other] = [yield* registerAdmin("boss12"), yield* register("rita"), yield* register("otto")]
      const visibility = { type: "m.room.history_visibility", content: { history_visibility: "joined" } }
      const { body: created } = yield* as(user)("POST", "/v3/createRoom", { initial_state: [visibility] })
      const room = created.room_id
      // Administrators see the events of users whom they ignore.
      const ignored = { ignored_users: { [user.id]: {} } }
      yield* as(admin)("PUT", `/v3/user/${inPath(admin.id)}/account_data/m.ignored_user_list`, ignored)
      const sent: Array<string> = []
      for (const text of ["one", "two", "three"]) sent.push(yield* sendText(user, room, text))
      const path = `/v1/rooms/${inPath(room)}`
      const context = yield* askAdmin(admin, "GET", `${path}/context/${inPath(sent[1]!)}?limit=2`)
      const around = context.body as unknown as {
        readonly [part in "events_before" | "events_after"]: ReadonlyArray<{ readonly event_id: string }>
      } & { readonly event: { readonly event_id: string; readonly sender: string; readonly origin_server_ts: number } }
      assert.deepInclude(around.event, { event_id: sent[1]!, sender: user.id })
      const ids = (events: ReadonlyArray<{ readonly event_id: string }>) => events.map(({ event_id }) => event_id)
      assert.deepStrictEqual([ids(around.events_before), ids(around.events_after)], [[sent[0]], [sent[2]]])
      const messages = (query: string) => askAdmin(admin, "GET", `${path}/messages?${query}`)
      const chunk = (answer: Answer) => ids(answer.body.chunk as never)
      const newest = yield* messages("dir=b&limit=2")
      assert.deepStrictEqual(chunk(newest), [sent[2], sent[1]])
      assert.strictEqual(chunk(yield* messages(`dir=b&limit=1&from=${newest.body.end as string}`))[0], sent[0])
      const [oldest] = chunk(yield* messages("limit=1"))
      assert.notInclude(sent, oldest)
      for (const part of [`context/${inPath(sent[1]!)}`, "messages"]) {
        assert.strictEqual((yield* askAdmin(other, "GET", `${path}/${part}`)).body.errcode, "M_FORBIDDEN")
        const unknown = yield* askAdmin(admin, "GET", `/v1/rooms/${inPath("!unknown:green.test")}/${part}`)
        assert.deepStrictEqual([unknown.status, unknown.body.errcode], [404, "M_NOT_FOUND"])
      }
      const fetched = yield* askAdmin(admin, "GET", `/v1/fetch_event/${inPath(sent[0]!)}`)
      assert.deepInclude(fetched.body.event, { event_id: sent[0], room_id: room })
      assert.strictEqual((yield* askAdmin(admin, "GET", `/v1/fetch_event/${inPath("$unknown")}`)).status, 404)
      const at = around.event.origin_server_ts
      const nearest = yield* askAdmin(admin, "GET", `${path}/timestamp_to_event?ts=${at}&dir=b`)
      assert.strictEqual(nearest.body.origin_server_ts, at)
      const elsewhere = yield* createRoom(user)
      const misplaced = `/v1/rooms/${inPath(elsewhere)}/context/${inPath(sent[1]!)}`
      assert.strictEqual((yield* askAdmin(admin, "GET", misplaced)).body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("lists deactivated accounts apart, and the memberships of a user", () =>
    Effect.gen(function* () {
      const [admin, kept, gone] = [
        yield* registerAdmin("boss14"),
        yield* register("list-kept"),
        yield* register("list-gone")
      ]
      const [joined, left] = [yield* createRoom(kept), yield* createRoom(kept)]
      yield* as(kept)("POST", `/v3/rooms/${inPath(left)}/leave`, {})
      const memberships = yield* askAdmin(admin, "GET", `/v1/users/${inPath(kept.id)}/memberships`)
      assert.deepStrictEqual(memberships.body as object, { memberships: { [joined]: "join", [left]: "leave" } })
      assert.strictEqual((yield* askAdmin(admin, "POST", `/v1/deactivate/${inPath(gone.id)}`, {})).status, 200)
      const names = (path: string) =>
        Effect.map(askAdmin(admin, "GET", `/${path}name=list-`), ({ body }) => {
          const users = body.users as unknown as ReadonlyArray<{ readonly name: string }>
          return users.map(({ name }) => name)
        })
      assert.deepStrictEqual(yield* names("v3/users?"), [gone.id, kept.id])
      assert.deepStrictEqual(yield* names("v3/users?deactivated=true&"), [gone.id])
      assert.deepStrictEqual(yield* names("v3/users?deactivated=false&"), [kept.id])
      assert.deepStrictEqual(yield* names("v2/users?deactivated=true&"), [gone.id, kept.id])
      assert.deepStrictEqual(yield* names("v2/users?"), [kept.id])
    })
  )
})
