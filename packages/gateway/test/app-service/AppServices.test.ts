import { setTimeout as pauseFor } from "node:timers/promises"
import { assert, layer } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { endOfTransaction, parseToken } from "@greenroom/store/StreamToken"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import type { Gateway } from "../../src/Gateway.ts"
import { crossSigningKeys, deviceKeys, oneTime } from "../client-server/DeviceClient.ts"
import {
  as,
  asDraft,
  askToday,
  createRoom,
  gatewayOnDatabase,
  inPath,
  outcome,
  register as registerUser,
  roomWith,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { BridgeServer, type SentEvent } from "./BridgeServer.ts"

const asToken = "as-token-of-the-bridge"
const hsToken = "hs-token-of-the-bridge"
const other = "as-token-of-another"

const gatewayOfBridge = Layer.unwrap(
  Effect.map(BridgeServer, ({ url }) =>
    gatewayOnDatabase(
      {},
      {
        appServices: [
          {
            id: "bridge",
            url,
            as_token: asToken,
            hs_token: hsToken,
            sender_localpart: "bridgebot",
            namespaces: {
              users: [{ exclusive: true, regex: "@_irc_.*" }],
              aliases: [{ exclusive: true, regex: "#_irc_.*" }],
              rooms: []
            },
            rate_limited: false,
            protocols: ["irc"],
            receive_ephemeral: true,
            "org.matrix.msc3202": true
          },
          {
            id: "other",
            url: null,
            as_token: other,
            hs_token: "unused",
            sender_localpart: "otherbot",
            namespaces: { users: [{ exclusive: false, regex: "@other_.*" }] }
          }
        ]
      }
    )
  )
)
const bridgeAndDatabase = Layer.merge(BridgeServer.layer, TestDatabase.layer)
const withBridge = Layer.provideMerge(gatewayOfBridge, bridgeAndDatabase)

const asService = (method: string, path: string, json?: unknown, token = asToken) =>
  askToday(method, path, { token, json })

/** Registers a user of the bridge. */
const puppet = (localpart: string) =>
  Effect.map(
    asService("POST", "/v3/register", {
      type: "m.login.application_service",
      username: localpart,
      inhibit_login: true
    }),
    ({ body }) => body.user_id
  )

/** The next event of a transaction that passes. Transactions before it are dropped. */
const nextEvent = Effect.fnUntraced(function* (passes: (event: SentEvent) => boolean) {
  const { nextTransaction } = yield* BridgeServer
  while (true) {
    const found = (yield* nextTransaction).events.find(passes)
    if (found !== undefined) return found
  }
})

layer(withBridge, { excludeTestServices: true })("application services", (it) => {
  it.effect("a service acts only as its own user and as users of its namespace", () =>
    Effect.gen(function* () {
      const own = yield* asService("GET", "/v3/account/whoami")
      assert.strictEqual(own.body.user_id, "@bridgebot:green.test")
      const user = yield* puppet("_irc_who")
      const asPuppet = yield* asService("GET", `/v3/account/whoami?user_id=${inPath(user)}`)
      assert.strictEqual(asPuppet.body.user_id, user)
      const alice = yield* registerUser("as-alice")
      for (const id of [alice.id, "@_irc_absent:green.test", "@_irc_who:elsewhere.test", "nobody"]) {
        const refused = yield* asService("GET", `/v3/account/whoami?user_id=${inPath(id)}`)
        assert.strictEqual(refused.status, 403, id)
        assert.strictEqual(refused.body.errcode, "M_FORBIDDEN")
      }
      const unknown = yield* asService("GET", "/v3/account/whoami", undefined, "no such token")
      assert.strictEqual(unknown.status, 401)
      const ofUser = yield* as(alice)("GET", `/v3/account/whoami?user_id=${inPath(user)}`)
      assert.strictEqual(ofUser.body.user_id, alice.id)
    })
  )

  it.effect("a service cannot act as a user once the account is deactivated", () =>
    Effect.gen(function* () {
      const user = yield* puppet("_irc_gone")
      const whoami = asService("GET", `/v3/account/whoami?user_id=${inPath(user)}`)
      assert.strictEqual((yield* whoami).status, 200)
      yield* Accounts.use((accounts) => accounts.deactivate(user as UserId))
      assert.strictEqual((yield* whoami).status, 403)
    })
  )

  it.effect("users and aliases of the namespace are created by the service alone, and it creates no others", () =>
    Effect.gen(function* () {
      const register = (json: object, token?: string) => askToday("POST", "/v3/register", { token, json })
      const type = "m.login.application_service"
      assert.strictEqual((yield* register({ type, username: "_irc_x" })).body.errcode, "M_MISSING_TOKEN")
      assert.strictEqual((yield* register({ type, username: "_irc_x" }, "wrong")).body.errcode, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* register({ type, username: "_irc_x" }, other)).body.errcode, "M_EXCLUSIVE")
      assert.strictEqual((yield* register({ type, username: "plain" }, asToken)).body.errcode, "M_EXCLUSIVE")
      const taken = yield* register({ username: "_irc_x", password: "secret", auth: { type: "m.login.dummy" } })
      assert.strictEqual(taken.body.errcode, "M_EXCLUSIVE")
      const shared = yield* register({ username: "other_x", password: "secret", auth: { type: "m.login.dummy" } })
      assert.strictEqual(shared.body.user_id, "@other_x:green.test", "a namespace that is not exclusive")
      assert.strictEqual((yield* register({ type, username: "_irc_x" }, asToken)).body.user_id, "@_irc_x:green.test")
      assert.strictEqual((yield* register({ type, username: "_irc_x" }, asToken)).body.errcode, "M_USER_IN_USE")
      const login = yield* asService("POST", "/v3/login", {
        type,
        identifier: { type: "m.id.user", user: "_irc_x" }
      })
      assert.strictEqual(login.body.user_id, "@_irc_x:green.test")
      assert.isString(login.body.access_token)
      // mautrix bridges do not start with encryption where the login type is not listed.
      const { body: types } = yield* askToday("GET", "/v3/login")
      assert.deepInclude(types.flows as ReadonlyArray<object>, { type })
      const refusal = (user: string, token?: string) =>
        Effect.map(
          askToday("POST", "/v3/login", { token, json: { type, identifier: { type: "m.id.user", user } } }),
          outcome
        )
      assert.strictEqual(yield* refusal("_irc_unregistered", asToken), "403 M_FORBIDDEN")
      assert.strictEqual(yield* refusal("_irc_x"), "401 M_MISSING_TOKEN")
      assert.strictEqual(yield* refusal("_irc_x", "of-nobody"), "401 M_UNKNOWN_TOKEN")
      assert.strictEqual(yield* refusal("as-names", asToken), "400 M_EXCLUSIVE")

      const alice = yield* as(yield* registerUser("as-names"))("POST", "/v3/createRoom", {
        room_alias_name: "_irc_mine"
      })
      assert.strictEqual(alice.body.errcode, "M_EXCLUSIVE")
      const inMiddle = yield* as(yield* registerUser("as-middle"))("POST", "/v3/createRoom", {
        room_alias_name: "not#_irc_mine"
      })
      assert.strictEqual(inMiddle.status, 200, "names are compared from their beginning")
      const made = yield* asService("POST", "/v3/createRoom", { room_alias_name: "_irc_tea" })
      assert.strictEqual(made.status, 200, made.text)
      const outside = yield* asService("PUT", `/v3/directory/room/${inPath("#plain:green.test")}`, {
        room_id: made.body.room_id
      })
      assert.strictEqual(outside.body.errcode, "M_EXCLUSIVE")
      const theirs = (yield* as(yield* registerUser("as-rooms"))("POST", "/v3/createRoom", {})).body.room_id
      const named = yield* asService("PUT", `/v3/directory/room/${inPath("#_irc_theirs:green.test")}`, {
        room_id: theirs
      })
      assert.strictEqual(named.status, 200, "the alias of a room that none of its users has joined")
    })
  )

  it.effect("a service deactivates its users without a password", () =>
    Effect.gen(function* () {
      const user = yield* puppet("_irc_ended")
      const ended = yield* asService("POST", `/v3/account/deactivate?user_id=${inPath(user)}`, {})
      assert.strictEqual(ended.status, 200, ended.text)
      assert.strictEqual((yield* asService("GET", `/v3/account/whoami?user_id=${inPath(user)}`)).status, 403)
    })
  )

  it.effect(
    "a service receives the events of the rooms that its users have joined, with the token of this server",
    () =>
      Effect.gen(function* () {
        const bridge = yield* BridgeServer
        const alice = yield* registerUser("as-talker")
        const user = yield* puppet("_irc_talker")
        const { room_id: room } = (yield* as(alice)("POST", "/v3/createRoom", { invite: [user] })).body
        yield* nextEvent(
          ({ room_id, state_key, type }) => room_id === room && type === "m.room.member" && state_key === user
        )
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/early`, {
          body: "before",
          msgtype: "m.text"
        })
        yield* asService("POST", `/v3/join/${inPath(room)}?user_id=${inPath(user)}`, {})
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/1`, { body: "hi", msgtype: "m.text" })
        const message = yield* nextEvent(({ room_id, type }) => room_id === room && type === "m.room.message")
        // The message before the join was not sent: an invited user does not make the room one of the service.
        assert.strictEqual(message.content.body, "hi")
        assert.strictEqual(message.sender, alice.id)
        yield* asService("POST", `/v3/rooms/${inPath(room)}/leave?user_id=${inPath(user)}`, {})
        yield* sendText(alice, room, "after the leave")
        yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: user })
        yield* nextEvent(
          ({ content, room_id, state_key }) => room_id === room && state_key === user && content.membership === "invite"
        )
        assert.isFalse(bridge.received.some(({ text }) => text.includes("after the leave")))
        for (const { authorization, path } of bridge.received) {
          assert.strictEqual(authorization, `Bearer ${hsToken}`)
          assert.notInclude(path, hsToken)
        }
      })
  )

  it.effect("an invitation of a user of the service comes with the stripped state of the room", () =>
    Effect.gen(function* () {
      const alice = yield* registerUser("as-host")
      const user = yield* puppet("_irc_guest")
      yield* as(alice)("POST", "/v3/createRoom", { name: "Tea", invite: [user] })
      const { unsigned } = yield* nextEvent(
        ({ content, state_key }) => state_key === user && content.membership === "invite"
      )
      const shown = new Map(unsigned?.invite_room_state?.map(({ content, type }) => [type, content]))
      assert.deepStrictEqual(shown.get("m.room.name"), { name: "Tea" })
      assert.includeMembers([...shown.keys()], ["m.room.create", "m.room.join_rules", "m.room.member"])
    })
  )

  it.effect("a message of a service has the timestamp of its request, and a repeated request sends no other", () =>
    Effect.gen(function* () {
      const user = yield* puppet("_irc_clock")
      const { room_id: room } = (yield* asService("POST", `/v3/createRoom?user_id=${inPath(user)}`, {})).body
      yield* nextEvent(({ room_id, type }) => room_id === room && type === "m.room.create")
      const path = `/v3/rooms/${inPath(room)}/send/m.room.message/1?user_id=${inPath(user)}&ts=1000000`
      const first = yield* asService("PUT", path, { body: "old", msgtype: "m.text" })
      const second = yield* asService("PUT", path, { body: "old", msgtype: "m.text" })
      assert.strictEqual(first.body.event_id, second.body.event_id)
      const event = yield* asService(
        "GET",
        `/v3/rooms/${inPath(room)}/event/${inPath(first.body.event_id)}?user_id=${inPath(user)}`
      )
      assert.strictEqual(event.body.origin_server_ts, 1_000_000)
      const wrong = yield* asService("PUT", path.replace("ts=1000000", "ts=soon").replace("/1?", "/2?"), { body: "x" })
      assert.strictEqual(wrong.body.errcode, "M_INVALID_PARAM")
      const left = yield* asService("POST", `/v3/rooms/${inPath(room)}/leave?user_id=${inPath(user)}&ts=soon`, {})
      assert.strictEqual(left.status, 200, "other requests take no time")
    })
  )

  it.effect("of edits with the same timestamp the one with the greatest event ID counts", () =>
    Effect.gen(function* () {
      const user = yield* puppet("_irc_edits")
      const { room_id: room } = (yield* asService("POST", `/v3/createRoom?user_id=${inPath(user)}`, {})).body
      const send = (txnId: number, content: object) =>
        Effect.map(
          asService(
            "PUT",
            `/v3/rooms/${inPath(room)}/send/m.room.message/${txnId}?user_id=${inPath(user)}&ts=1000000`,
            { body: "text", msgtype: "m.text", ...content }
          ),
          ({ body }) => body.event_id
        )
      const root = yield* send(0, {})
      const edit = {
        "m.new_content": { body: "edited", msgtype: "m.text" },
        "m.relates_to": { rel_type: "m.replace", event_id: root }
      }
      const edits: Array<string> = []
      const greatest = () => edits.toSorted().at(-1)
      // Neither the first nor the last edit is the one that counts.
      while (edits.length < 3 || edits[0] === greatest() || edits.at(-1) === greatest()) {
        edits.push(yield* send(edits.length + 1, edit))
      }
      const path = `/v3/rooms/${inPath(room)}/event/${inPath(root)}?user_id=${inPath(user)}`
      const { unsigned } = (yield* asService("GET", path)).body as never as {
        readonly unsigned: { readonly "m.relations": { readonly "m.replace": { readonly event_id: string } } }
      }
      assert.strictEqual(unsigned["m.relations"]["m.replace"].event_id, greatest())
    })
  )

  it.effect("a refused transaction is sent again byte for byte, and later ones wait for it", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const user = yield* puppet("_irc_retry")
      const { room_id: room } = (yield* asService("POST", `/v3/createRoom?user_id=${inPath(user)}`, {})).body
      yield* nextEvent(({ room_id, type }) => room_id === room && type === "m.room.create")
      let refusals = 0
      const hasRefused = (text: string) => text.includes("the refused one")
      bridge.replyWith = async ({ text }) => ({ status: hasRefused(text) && refusals++ < 2 ? 500 : 200 })
      const send = (txnId: string, body: string) =>
        asService("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${txnId}?user_id=${inPath(user)}`, {
          body,
          msgtype: "m.text"
        })
      yield* send("r1", "the refused one")
      // Before the first attempt both events could go in one transaction.
      yield* Effect.promise(async () => {
        while (refusals === 0) await pauseFor(10)
      })
      yield* send("r2", "the next one")
      yield* nextEvent(({ content }) => content.body === "the next one")
      const attempts = bridge.received.filter(
        ({ path, text }) => path.includes("/v1/transactions/") && hasRefused(text)
      )
      assert.strictEqual(attempts.length, 3)
      assert.strictEqual(new Set(attempts.map(({ path, text }) => `${path} ${text}`)).size, 1)
      assert.lengthOf(
        bridge.received.filter(({ text }) => text.includes("the next one")),
        1
      )
    })
  )

  it.effect("a service that was away gets many large events in transactions that it can take", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const user = yield* puppet("_irc_flooded")
      let refused = 0
      bridge.replyWith = async ({ path }) => {
        if (!path.includes("/v1/transactions/")) return { status: 200 }
        refused++
        return { status: 500 }
      }
      const { room_id: room } = (yield* asService("POST", `/v3/createRoom?user_id=${inPath(user)}`, {})).body
      yield* Effect.promise(async () => {
        while (refused === 0) await pauseFor(10)
      })
      const send = (body: string) =>
        asService("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/${body.length}?user_id=${inPath(user)}`, {
          body,
          msgtype: "m.text"
        })
      const bodies = Array.from({ length: 90 }, (_, n) => "x".repeat(60_000 + n))
      yield* Effect.forEach(bodies, send, { concurrency: 8, discard: true })
      // The limit of matrix-appservice-node.
      bridge.replyWith = async ({ text }) => ({ status: text.length > 5_000_000 ? 413 : 200 })
      const sent = new Set<unknown>()
      while (sent.size < bodies.length) {
        for (const { content } of (yield* bridge.nextTransaction).events) {
          if (bodies.includes(content.body as string)) {
            assert.isFalse(sent.has(content.body), "sent once")
            sent.add(content.body)
          }
        }
      }
      bridge.replyWith = async () => ({ status: 200 })
    })
  )

  it.effect(
    "a service that was away gets the events of rooms that its users have left, and none from before they came",
    () =>
      Effect.gen(function* () {
        const bridge = yield* BridgeServer
        const user = yield* puppet("_irc_away")
        const alice = yield* registerUser("as-away")
        const refused: Array<string> = []
        bridge.replyWith = async ({ path, text }) => {
          if (!path.includes("/v1/transactions/")) return { status: 200 }
          refused.push(text)
          return { status: 500 }
        }
        yield* asService("POST", `/v3/createRoom?user_id=${inPath(user)}`, {})
        yield* Effect.promise(async () => {
          while (refused.length === 0) await pauseFor(10)
        })
        const [left, entered] = [yield* roomWith(alice), yield* roomWith(alice)]
        const move = (what: string, room: string) =>
          asService("POST", `/v3/rooms/${inPath(room)}/${what}?user_id=${inPath(user)}`, {})
        yield* move("join", left)
        yield* sendText(alice, left, "while it was in")
        yield* move("leave", left)
        yield* sendText(alice, left, "after it left")
        yield* sendText(alice, entered, "before it came")
        yield* move("join", entered)
        yield* sendText(alice, entered, "after it came")
        bridge.replyWith = async () => ({ status: 200 })
        yield* nextEvent(({ content }) => content.body === "after it came")
        const sent = (body: string) => bridge.received.some(({ text }) => text.includes(body))
        assert.deepStrictEqual(["while it was in", "after it left", "before it came", "after it came"].map(sent), [
          true,
          false,
          false,
          true
        ])
      })
  )

  it.effect("the progress of a service is stored as the position of a row, which is valid after a restart", () =>
    Effect.gen(function* () {
      const alice = yield* registerUser("as-progress")
      const room = yield* createRoom(alice, { invite: [yield* puppet("_irc_progress")] })
      yield* askToday("POST", `/v3/rooms/${inPath(room)}/join?user_id=${inPath("@_irc_progress:green.test")}`, {
        token: asToken,
        json: {}
      })
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/1`, {
        msgtype: "m.text",
        body: "row"
      })
      yield* nextEvent(({ content }) => content.body === "row")
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ sent_to: string }>`SELECT sent_to FROM app_services WHERE service_id = 'bridge'`
      const { position } = Option.getOrThrow(parseToken(row!.sent_to))
      assert.isBelow(position.nid, endOfTransaction(position.xid).nid)
    })
  )

  it.effect("typing and receipts are sent to a service that sets receive_ephemeral", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const alice = yield* registerUser("as-typist")
      const user = yield* puppet("_irc_reader")
      const { room_id: room } = (yield* as(alice)("POST", "/v3/createRoom", { invite: [user] })).body
      yield* asService("POST", `/v3/join/${inPath(room)}?user_id=${inPath(user)}`, {})
      const sent = yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/1`, {
        body: "hi",
        msgtype: "m.text"
      })
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/typing/${inPath(alice.id)}`, {
        typing: true,
        timeout: 30_000
      })
      const receipt = (type: string) => `/v3/rooms/${inPath(room)}/receipt/${type}/${inPath(sent.body.event_id)}`
      yield* as(alice)("POST", receipt("m.read.private"), {})
      yield* asService("POST", `${receipt("m.read.private")}?user_id=${inPath(user)}`, {})
      yield* as(alice)("POST", receipt("m.read"), {})
      const wanted = new Set(["m.typing", "m.read", "m.read.private"])
      while (wanted.size > 0) {
        for (const { content, room_id, type } of (yield* nextTransaction).ephemeral) {
          if (room_id !== room) continue
          if (type === "m.typing" && wanted.has(type)) assert.deepStrictEqual(content, { user_ids: [alice.id] })
          wanted.delete(type)
          if (type !== "m.receipt") continue
          const receipts = (content as Record<string, Record<string, object>>)[sent.body.event_id]!
          // Private receipts are those of the service's own users.
          if (receipts["m.read.private"]) assert.deepStrictEqual(Object.keys(receipts["m.read.private"]), [user])
          for (const kind of Object.keys(receipts)) wanted.delete(kind)
        }
      }
    })
  )

  it.effect("a user who is hidden is offline for a service, and users of other rooms are not shown to it", () =>
    Effect.gen(function* () {
      const { nextTransaction, received } = yield* BridgeServer
      const alice = yield* registerUser("as-hidden")
      const stranger = yield* registerUser("as-stranger")
      const setPresence = (user: TestUser, presence: string, status_msg: string) =>
        asDraft(user)("PUT", `/presence/${inPath(user.id)}/status`, { presence, status_msg })
      const user = yield* puppet("_irc_watcher")
      const { room_id: room } = (yield* as(alice)("POST", "/v3/createRoom", { invite: [user] })).body
      yield* asService("POST", `/v3/join/${inPath(room)}?user_id=${inPath(user)}`, {})
      /** The presence of Alice in the next transaction that has some. */
      const seen = Effect.gen(function* () {
        while (true) {
          const { ephemeral } = yield* nextTransaction
          const found = ephemeral.filter((event) => "sender" in event && event.sender === alice.id)
          if (found.length > 0) return found.map(({ content }) => (content as { readonly presence: string }).presence)
        }
      })
      yield* setPresence(stranger, "online", "elsewhere")
      yield* setPresence(alice, "online", "here")
      while (!(yield* seen).includes("online"));
      yield* setPresence(alice, "hidden", "not here")
      assert.deepStrictEqual(yield* seen, ["offline"])
      assert.isFalse(received.some(({ text }) => text.includes(stranger.id)))
    })
  )

  it.effect("a service is asked for users and aliases of its namespace when they are first used", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const alice = yield* registerUser("as-asker")
      const services = yield* Effect.context<Gateway>()
      const run = Effect.runPromiseWith(services)
      bridge.replyWith = async ({ method, path }) => {
        if (method === "GET" && path.endsWith(inPath("@_irc_lazy:green.test"))) {
          await run(puppet("_irc_lazy"))
          return { status: 200 }
        }
        if (method === "GET" && path.endsWith(inPath("#_irc_lazy:green.test"))) {
          await run(asService("POST", "/v3/createRoom", { room_alias_name: "_irc_lazy", preset: "public_chat" }))
          return { status: 200 }
        }
        return { status: method === "GET" ? 404 : 200 }
      }
      const joined = yield* as(alice)("POST", `/v3/join/${inPath("#_irc_lazy:green.test")}`, {})
      assert.strictEqual(joined.status, 200, joined.text)
      const invited = yield* as(alice)("POST", "/v3/createRoom", { invite: ["@_irc_lazy:green.test"] })
      assert.strictEqual(invited.status, 200, invited.text)
      const absent = yield* as(alice)("POST", "/v3/createRoom", { invite: ["@_irc_none:green.test"] })
      assert.strictEqual(absent.status, 404)
      const noAlias = yield* as(alice)("POST", `/v3/join/${inPath("#_irc_none:green.test")}`, {})
      assert.strictEqual(noAlias.status, 404)
    })
  )

  it.effect("third-party networks, users and locations are those of the services", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const alice = yield* registerUser("as-networks")
      bridge.replyWith = async ({ path }) => {
        if (path.startsWith("/_matrix/app/v1/thirdparty/protocol/irc")) {
          return {
            status: 200,
            json: { user_fields: ["nick"], location_fields: [], instances: [{ desc: "IRC", network_id: "libera" }] }
          }
        }
        const byFields = "/_matrix/app/v1/thirdparty/location/irc?channel=%23ada"
        const byAlias = `/_matrix/app/v1/thirdparty/location?alias=${encodeURIComponent("#_irc_ada:green.test")}`
        if (path.startsWith(byFields) || path.startsWith(byAlias)) {
          return {
            status: 200,
            json: [{ alias: "#_irc_ada:green.test", protocol: "irc", fields: { channel: "#ada" } }]
          }
        }
        if (path.startsWith("/_matrix/app/v1/thirdparty/user/irc?nick=bob")) {
          return { status: 200, json: [{ userid: "@_irc_bob:green.test", protocol: "irc", fields: { nick: "bob" } }] }
        }
        return { status: 200 }
      }
      const protocols = yield* as(alice)("GET", "/v3/thirdparty/protocols")
      const [instance] = (protocols.body.irc as { instances: ReadonlyArray<{ instance_id: string }> }).instances
      const room = yield* createRoom(alice, { name: "On Libera", visibility: "private" })
      const listed = `/v3/directory/list/appservice/libera/${inPath(room)}`
      const forbidden = yield* as(alice)("PUT", listed, { visibility: "public" })
      assert.strictEqual(forbidden.body.errcode, "M_FORBIDDEN")
      yield* asService("PUT", listed, { visibility: "public" })
      const publicRooms = (search: object) =>
        Effect.map(as(alice)("POST", "/v3/publicRooms", search), ({ body }) => body.chunk.map(({ room_id }) => room_id))
      assert.deepStrictEqual(yield* publicRooms({ third_party_instance_id: instance?.instance_id }), [room])
      assert.deepStrictEqual(yield* publicRooms({ third_party_instance_id: "other|libera" }), [])
      assert.include(yield* publicRooms({ include_all_networks: true }), room)
      assert.notInclude(yield* publicRooms({}), room)
      yield* asService("PUT", listed, { visibility: "private" })
      assert.deepStrictEqual(yield* publicRooms({ third_party_instance_id: instance?.instance_id }), [])
      const users = yield* as(alice)("GET", "/v3/thirdparty/user/irc?nick=bob")
      assert.strictEqual(
        (users.body as unknown as ReadonlyArray<{ userid: string }>)[0]?.userid,
        "@_irc_bob:green.test"
      )
      const location = [{ alias: "#_irc_ada:green.test", protocol: "irc", fields: { channel: "#ada" } }]
      const byFields = yield* as(alice)("GET", "/v3/thirdparty/location/irc?channel=%23ada")
      const byAlias = yield* as(alice)("GET", `/v3/thirdparty/location?alias=${inPath("#_irc_ada:green.test")}`)
      assert.deepStrictEqual([byFields.body, byAlias.body] as ReadonlyArray<unknown>, [location, location])
      const unknown = yield* as(alice)("GET", "/v3/thirdparty/location/xmpp?channel=%23ada")
      assert.deepStrictEqual([unknown.status, unknown.body.errcode], [404, "M_NOT_FOUND"])
      const unnamed = yield* as(alice)("GET", "/v3/thirdparty/location")
      assert.strictEqual(unnamed.status, 400)
      const none = yield* as(alice)("GET", "/v3/thirdparty/protocol/xmpp")
      assert.strictEqual(none.status, 404)
    })
  )

  it.effect("the answer of a service that nests without end is not passed on", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const alice = yield* registerUser("as-deep")
      const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`
      bridge.replyWith = async () => ({ status: 200, text: `{"user_fields":${deep}}` })
      const protocols = yield* as(alice)("GET", "/v3/thirdparty/protocols")
      assert.deepStrictEqual([protocols.status, protocols.text], [200, "{}"])
      assert.strictEqual((yield* as(alice)("GET", "/v3/thirdparty/protocol/irc")).status, 404)
      bridge.replyWith = async () => ({ status: 200 })
    })
  )

  it.effect("a ping shows whether the server reaches the service, and how it answers", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const alice = yield* registerUser("as-pinger")
      bridge.replyWith = async () => ({ status: 200 })
      const pinged = yield* asService("POST", "/v1/appservice/bridge/ping", { transaction_id: "meow" })
      assert.isNumber(pinged.body.duration_ms)
      assert.isTrue(bridge.received.some(({ path, text }) => path.endsWith("/ping") && text.includes("meow")))
      assert.strictEqual((yield* as(alice)("POST", "/v1/appservice/bridge/ping", {})).status, 403)
      const foreign = yield* asService("POST", "/v1/appservice/bridge/ping", {}, other)
      assert.strictEqual(foreign.status, 403)
      const without = yield* asService("POST", "/v1/appservice/other/ping", {}, other)
      assert.strictEqual(without.body.errcode, "M_URL_NOT_SET")
      bridge.replyWith = async () => ({ status: 403, json: { errcode: "M_FORBIDDEN" } })
      const bad = yield* asService("POST", "/v1/appservice/bridge/ping", {})
      assert.strictEqual(bad.status, 502)
      assert.strictEqual(bad.body.errcode, "M_BAD_STATUS")
      assert.strictEqual(bad.body.status, 403)
      bridge.replyWith = async () => ({ status: 200 })
    })
  )

  it.effect("a service creates and deletes devices of its users, whose to-device messages come in transactions", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const user = yield* puppet("_irc_secret")
      const asUser = `user_id=${inPath(user)}`
      const unknown = asService("GET", `/v3/account/whoami?${asUser}&device_id=PUPPET`)
      assert.strictEqual((yield* unknown).body.errcode, "M_UNKNOWN_DEVICE")
      const made = yield* asService("PUT", `/v3/devices/PUPPET?${asUser}`, { display_name: "Puppet" })
      assert.strictEqual(made.status, 201, made.text)
      const renamed = yield* asService("PUT", `/v3/devices/PUPPET?${asUser}`, { display_name: "Puppet" })
      assert.strictEqual(renamed.status, 200, renamed.text)
      const found = yield* asService("GET", `/v3/devices/PUPPET?${asUser}`)
      assert.strictEqual((found.body as { display_name?: string }).display_name, "Puppet")
      const whoami = yield* asService("GET", `/v3/account/whoami?${asUser}&device_id=PUPPET`)
      assert.strictEqual((whoami.body as { device_id?: string }).device_id, "PUPPET")

      const alice = yield* registerUser("as-writes-to-device")
      const content = { body: "for the device" }
      const sent = yield* as(alice)("PUT", "/v3/sendToDevice/m.test/1", {
        messages: { [user]: { PUPPET: content } }
      })
      assert.strictEqual(sent.status, 200, sent.text)
      let transaction: Record<string, unknown>
      do transaction = (yield* nextTransaction) as unknown as Record<string, unknown>
      while (transaction.to_device === undefined)
      assert.deepStrictEqual(transaction.to_device, [
        { type: "m.test", sender: alice.id, content, to_user_id: user, to_device_id: "PUPPET" }
      ])
      assert.deepStrictEqual(transaction["de.sorunome.msc2409.to_device"], transaction.to_device)
      assert.deepStrictEqual(transaction["org.matrix.msc3202.device_one_time_keys_count"], { [user]: { PUPPET: {} } })

      const room = yield* createRoom(alice)
      const invited = yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: user })
      assert.strictEqual(invited.status, 200, invited.text)
      assert.strictEqual((yield* asService("POST", `/v3/join/${inPath(room)}?${asUser}`, {})).status, 200)
      const changes = () =>
        (transaction["org.matrix.msc3202.device_lists"] as { changed: ReadonlyArray<string> } | undefined)?.changed ??
        []
      do transaction = (yield* nextTransaction) as unknown as Record<string, unknown>
      while (!changes().includes(user))

      const ended = yield* asService("DELETE", `/v3/devices/PUPPET?${asUser}`, {})
      assert.strictEqual(ended.status, 200, ended.text)
      assert.strictEqual((yield* asService("GET", `/v3/devices/PUPPET?${asUser}`)).status, 404)
      const after = yield* unknown
      assert.deepStrictEqual([after.status, after.body.errcode], [400, "M_UNKNOWN_DEVICE"])
    })
  )

  it.effect("messages to a device come once in transactions, and stay for the /sync of the device", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const user = yield* puppet("_irc_syncs")
      const { body: login } = yield* asService("POST", "/v3/login", {
        type: "m.login.application_service",
        identifier: { type: "m.id.user", user },
        device_id: "SYNCS"
      })
      const alice = yield* registerUser("as-writes-to-client")
      const sent = (txnId: string) => ({ type: "m.test", sender: alice.id, content: { txnId } })
      /** Sends a message to the device. Returns the messages of the transaction that has it. */
      const transactionWith = Effect.fnUntraced(function* (txnId: string) {
        const messages = { [user]: { SYNCS: sent(txnId).content } }
        yield* as(alice)("PUT", `/v3/sendToDevice/m.test/${txnId}`, { messages })
        while (true) {
          const { to_device } = JSON.parse((yield* nextTransaction).text)
          if (to_device !== undefined) return to_device
        }
      })
      for (const txnId of ["first", "second"]) {
        const [message, ...others] = yield* transactionWith(txnId)
        assert.deepStrictEqual(message, { ...sent(txnId), to_user_id: user, to_device_id: "SYNCS" })
        assert.lengthOf(others, 0)
      }
      const sync = Effect.fnUntraced(function* (since = "") {
        const { body } = yield* as({ id: user, token: login.access_token })("GET", `/v3/sync?timeout=0${since}`)
        return body as never as { next_batch: string; to_device: { events: ReadonlyArray<object> } }
      })
      const { next_batch, to_device } = yield* sync()
      assert.deepStrictEqual(to_device.events, ["first", "second"].map(sent))
      assert.deepStrictEqual((yield* sync(`&since=${next_batch}`)).to_device.events, [])
    })
  )

  it.effect("counts of one-time keys come when keys are claimed, and with the events of a room", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const user = yield* puppet("_irc_counts")
      const device = { id: user, device: "COUNTS", token: asToken }
      const asDevice = `user_id=${inPath(user)}&device_id=COUNTS`
      yield* asService("PUT", `/v3/devices/COUNTS?user_id=${inPath(user)}`, {})
      yield* asService("POST", `/v3/keys/upload?${asDevice}`, {
        device_keys: deviceKeys(device),
        one_time_keys: oneTime(1, 2),
        fallback_keys: { "signed_curve25519:fallback": { key: "fallback", fallback: true } }
      })
      /** The counts of the device in the next transaction that has them, and the events of the transaction. */
      const counted = Effect.gen(function* () {
        while (true) {
          const transaction = JSON.parse((yield* nextTransaction).text)
          const count = transaction["org.matrix.msc3202.device_one_time_keys_count"]?.[user]?.COUNTS
          const unused = transaction["org.matrix.msc3202.device_unused_fallback_key_types"]?.[user]?.COUNTS
          if (count !== undefined) return { count, unused, events: transaction.events as ReadonlyArray<SentEvent> }
        }
      })
      const unused = ["signed_curve25519"]
      let found: Effect.Success<typeof counted>
      do found = yield* counted
      while (found.count.signed_curve25519 !== 2)
      assert.deepStrictEqual(found.unused, unused)

      const alice = yield* registerUser("as-claims")
      const claim = as(alice)("POST", "/v3/keys/claim", { one_time_keys: { [user]: { COUNTS: "signed_curve25519" } } })
      for (const count of [{ signed_curve25519: 1 }, {}]) {
        yield* claim
        assert.deepStrictEqual(yield* counted, { count, unused, events: [] })
      }
      yield* claim
      assert.deepStrictEqual(yield* counted, { count: {}, unused: [], events: [] })

      const room = yield* roomWith(alice)
      yield* asService("POST", `/v3/join/${inPath(room)}?user_id=${inPath(user)}`, {})
      yield* sendText(alice, room, "counted")
      do found = yield* counted
      while (!found.events.some(({ content }) => content.body === "counted"))
      assert.deepStrictEqual(found.count, {})
    })
  )

  it.effect("transactions have the users whose keys changed for users of the service, as in /sync", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const [user, last] = [yield* puppet("_irc_signs"), yield* puppet("_irc_last")]
      const post = (userId: string, path: string, json: object) =>
        Effect.map(asService("POST", `/v3/keys${path}?user_id=${inPath(userId)}`, json), ({ text }) => text)
      /** Changes the keys of `last`. Returns the users whose keys changed before that. */
      const changed = Effect.gen(function* () {
        const keys = crossSigningKeys({ id: last })
        assert.strictEqual(yield* post(last, "/device_signing/upload", keys.upload), "{}")
        const names = new Set<string>()
        while (!names.has(last)) {
          const { text } = yield* nextTransaction
          const lists = JSON.parse(text)["org.matrix.msc3202.device_lists"]
          for (const name of lists?.changed ?? []) names.add(name)
        }
        names.delete(last)
        return [...names]
      })
      // Takes the changes of the tests before.
      yield* changed
      const [alice, bob] = [yield* registerUser("as-signed"), yield* registerUser("as-unsigned")]
      const [ofUser, ofAlice, ofBob] = [crossSigningKeys({ id: user }), crossSigningKeys(alice), crossSigningKeys(bob)]
      assert.strictEqual(yield* post(user, "/device_signing/upload", ofUser.upload), "{}")
      for (const [signer, keys] of [[alice, ofAlice] as const, [bob, ofBob] as const]) {
        const answer = yield* as(signer)("POST", "/v3/keys/device_signing/upload", keys.upload)
        assert.strictEqual(answer.text, "{}")
      }
      assert.deepStrictEqual(yield* changed, [user], "the others share no room with the service")

      const { keyId, publicKey } = crossSigningKeys({ id: user }).userSigning
      const newKey = ofUser.master.sign({ user_id: user, usage: ["user_signing"], keys: { [keyId]: publicKey } })
      assert.strictEqual(yield* post(user, "/device_signing/upload", { user_signing_key: newKey }), "{}")
      assert.deepStrictEqual(yield* changed, [user], "a user-signing key")

      const signed = (by: typeof ofUser, of: typeof ofUser, { id }: { readonly id: string }) => ({
        [id]: { [of.master.publicKey]: by.userSigning.sign(of.upload.master_key) }
      })
      assert.strictEqual(yield* post(user, "/device_signing/upload", ofUser.upload), "{}")
      assert.strictEqual(yield* post(user, "/signatures/upload", signed(ofUser, ofAlice, alice)), `{"failures":{}}`)
      const other = yield* as(alice)("POST", "/v3/keys/signatures/upload", signed(ofAlice, ofBob, bob))
      assert.strictEqual(other.text, `{"failures":{}}`)
      assert.sameMembers(yield* changed, [user, alice.id], "signatures of the service's users alone")
    })
  )

  it.effect("transactions have the members of a room that the first user of the service enters", () =>
    Effect.gen(function* () {
      const { nextTransaction } = yield* BridgeServer
      const [first, second] = [yield* puppet("_irc_enters"), yield* puppet("_irc_follows")]
      const [alice, bob] = [yield* registerUser("as-met"), yield* registerUser("as-met-too")]
      const room = yield* roomWith(alice, [bob])
      /** The users whose keys changed in the transaction of a join. */
      const changedAtJoin = Effect.fnUntraced(function* (user: string) {
        yield* asService("POST", `/v3/join/${inPath(room)}?user_id=${inPath(user)}`, {})
        while (true) {
          const transaction = JSON.parse((yield* nextTransaction).text)
          const isOfJoin = (event: SentEvent) => event.room_id === room && event.state_key === user
          if (transaction.events.some(isOfJoin)) return transaction["org.matrix.msc3202.device_lists"].changed
        }
      })
      assert.sameMembers(yield* changedAtJoin(first), [first, alice.id, bob.id])
      assert.deepStrictEqual(yield* changedAtJoin(second), [second])
    })
  )
})

layer(bridgeAndDatabase, { excludeTestServices: true })("an application service of a server that restarts", (it) => {
  it.effect("gets what happened from the first start on, the transaction that it had refused first", () =>
    Effect.gen(function* () {
      const bridge = yield* BridgeServer
      const transactions = () => bridge.received.filter(({ path }) => path.includes("/v1/transactions/"))
      bridge.replyWith = async () => ({ status: 500 })
      const create = Effect.gen(function* () {
        yield* asService("POST", `/v3/createRoom?user_id=${inPath(yield* puppet("_irc_restart"))}`, {})
        yield* Effect.promise(async () => {
          while (transactions().length === 0) await pauseFor(10)
        })
      })
      yield* Effect.provide(create, Layer.fresh(gatewayOfBridge))
      bridge.replyWith = async () => ({ status: 200 })
      const refused = transactions()
      yield* Effect.provide(
        nextEvent(({ type }) => type === "m.room.create"),
        Layer.fresh(gatewayOfBridge)
      )
      const [first, again] = [refused[0]!, transactions()[refused.length]!]
      assert.deepStrictEqual([again.path, again.text], [first.path, first.text])
    })
  )
})
