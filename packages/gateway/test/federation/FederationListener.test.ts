import { assert, describe, it } from "@effect/vitest"
import { FederationClient } from "@greenroom/actors/federation/FederationClient"
import { authorizationOf } from "@greenroom/actors/federation/RequestSigning"
import type { EventId, RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import { generateSigningKey, type SigningKey, verifyJson, verifyKeyOf } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer, Result, Schedule } from "effect"
import type { FederationListenerOptions } from "../../src/federation/FederationListener.ts"
import { outcome } from "../TestGateway.ts"
import { type Ask, ask, bigState, Received, server } from "./support/TestServer.ts"

const roomId = "!room:example.org" as RoomId

/** Two servers that know only each other's name. */
const twoServersWith = Effect.fnUntraced(function* (listener: Partial<FederationListenerOptions>) {
  const [red, blue] = [yield* freePort, yield* freePort].map((port) => `127.0.0.1:${port}` as ServerName)
  return {
    red: red!,
    blue: blue!,
    port: Number(blue!.split(":")[1]),
    onRed: yield* Layer.build(server(red!)),
    onBlue: yield* Layer.build(server(blue!, listener))
  }
})

const twoServers = twoServersWith({})

type Servers = Effect.Success<typeof twoServers>

const transactionBetween = ({ blue, red }: Servers, pdus: ReadonlyArray<JsonObject> = []) => ({
  transaction_id: "t1",
  origin: red,
  destination: blue,
  ts: 1,
  prev_ids: ["t0"],
  pdus
})

/** How a request differs from a valid one. */
interface Alteration {
  readonly method?: string
  readonly path?: string
  readonly signedPath?: string
  readonly destination?: ServerName
  readonly origin?: ServerName
  readonly key?: SigningKey
  readonly body?: string | Uint8Array
  readonly signedBody?: string
}

/** Sends a transaction of red to blue, signed with the key of red unless `altered` says otherwise. */
const send = Effect.fnUntraced(function* (servers: Servers, altered: Alteration = {}) {
  const path = altered.path ?? "/matrix/federation/v1/send/t1"
  const method = altered.method ?? "PUT"
  const body = altered.body ?? encodeOrThrow(transactionBetween(servers) as never)
  const head = {
    method,
    uri: altered.signedPath ?? path,
    origin: altered.origin ?? servers.red,
    destination: altered.destination ?? servers.blue
  }
  const key = altered.key ?? (yield* Context.get(servers.onRed, SigningKeys).current)
  const authorization = yield* authorizationOf(head, Buffer.from((altered.signedBody ?? body) as string), key)
  return yield* ask({ port: servers.port, method, path, headers: { authorization }, body })
})

const received = (servers: Servers) => Context.get(servers.onBlue, Received)

const refused = Effect.fnUntraced(function* (servers: Servers, altered: Alteration, status: number, errcode: string) {
  const answer = yield* send(servers, altered)
  assert.deepStrictEqual([answer.status, answer.body.errcode], [status, errcode], JSON.stringify(answer.body))
  assert.isString(answer.body.error)
  assert.deepStrictEqual(received(servers).transactions, [])
})

describe("FederationListener", () => {
  it.live("answers the signed requests of another server", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const { blue, onRed, red } = servers
      const client = Context.get(onRed, FederationClient)
      const pdu = { pdu_id: "ab", content: { body: "ü 🎭" } }
      assert.deepStrictEqual(yield* client.sendTransaction(blue, transactionBetween(servers, [pdu])), { pdus: {} })
      assert.deepStrictEqual(received(servers).transactions, [{ ...transactionBetween(servers, [pdu]), edus: [] }])
      assert.deepStrictEqual(received(servers).heardFrom, [red])

      const eventId = `$x/ü,y:${red}` as EventId
      assert.deepStrictEqual(yield* client.getPdu(blue, eventId), { origin: red, event_id: eventId })
      const state = yield* client.getState(blue, roomId, eventId)
      assert.deepStrictEqual(state, { pdus: bigState, auth_chain: [{ at: eventId }] })
      assert.deepStrictEqual(yield* client.backfill(blue, roomId, [eventId, "$z:c" as EventId], 7), [
        { from: [eventId, "$z:c"], limit: 7 }
      ])
      assert.deepStrictEqual(yield* client.pull(blue, ["t1", "t 2"]), [{ after: ["t1", "t 2"] }])
      const userId = `@ü:${blue}` as UserId
      assert.deepStrictEqual(yield* client.queryProfile(userId, "displayname"), {
        user_id: userId,
        field: "displayname"
      })
      assert.strictEqual((yield* client.queryPresence(userId)).state, "online")
    })
  )

  it.live("the bytes of answers that other servers have not read are bounded", () =>
    Effect.gen(function* () {
      const { blue, onRed, red } = yield* twoServersWith({ maxUnreadBytes: JSON.stringify(bigState).length / 2 })
      const client = Context.get(onRed, FederationClient)
      assert.deepStrictEqual(yield* client.pull(blue, ["t1"]), [{ after: ["t1"] }])
      const cut = yield* Effect.flip(client.getState(blue, roomId, `$x:${red}` as EventId))
      assert.strictEqual(cut._tag, "RemoteUnreachable")
    })
  )

  it.live("answers the handshakes of joins, leaves, knocks and invitations", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const { blue, onRed, red } = servers
      const client = Context.get(onRed, FederationClient)
      const ours = `@alice:${red}` as UserId
      for (const make of [client.makeJoin, client.makeLeave, client.makeKnock]) {
        assert.strictEqual((yield* make(blue, roomId, ours)).room_version, "1-draft")
      }
      const eventId = `$e:${red}` as EventId
      assert.strictEqual((yield* client.sendJoin(blue, roomId, eventId, { n: 1 })).state.length, bigState.length)
      yield* client.sendLeave(blue, roomId, eventId, { n: 2 })
      yield* client.sendKnock(blue, roomId, eventId, { n: 3 })
      assert.deepStrictEqual(received(servers).pdus, [{ n: 1 }, { n: 2 }, { n: 3 }])
      assert.deepStrictEqual(yield* client.invite(blue, roomId, eventId, { n: 4 }), {
        event: { n: 4, event_id: eventId }
      })
      const foreign = yield* Effect.flip(client.makeJoin(blue, roomId, "@bob:elsewhere.org" as UserId))
      assert.deepInclude(foreign, { _tag: "RemoteRefused", status: 403, errcode: "M_FORBIDDEN" })
      const unknown = yield* Effect.flip(client.queryDirectory(`#none:${blue}` as RoomAlias))
      assert.deepInclude(unknown, { _tag: "RemoteRefused", status: 404, errcode: "M_NOT_FOUND" })
    })
  )

  it.live("accepts both prefixes and a trailing slash, signed as they were sent", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      for (const path of [
        "/matrix/federation/v1/send/t1",
        "/matrix/federation/v1/send/t2/",
        "/_matrix/federation/v1/send/t3",
        "/_matrix/federation/v1/send/t4/"
      ]) {
        assert.strictEqual((yield* send(servers, { path })).status, 200, path)
      }
      assert.deepStrictEqual(
        received(servers).transactions.map((transaction) => transaction.transaction_id),
        ["t1", "t2", "t3", "t4"]
      )
    })
  )

  it.live("checks the signature over the canonical form of a body, however it is written", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const transaction = transactionBetween(servers, [{ text: "ü" }])
      const answer = yield* send(servers, {
        body: JSON.stringify(transaction, null, 2).replace("ü", "\\u00fc"),
        signedBody: encodeOrThrow(transaction as never)
      })
      assert.strictEqual(answer.status, 200, JSON.stringify(answer.body))
    })
  )

  it.live("accepts an empty transaction, and takes its missing fields from the request", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      assert.strictEqual((yield* send(servers, { body: "{}" })).status, 200)
      const { blue, red } = servers
      assert.deepInclude(received(servers).transactions[0], {
        transaction_id: "t1",
        origin: red,
        destination: blue,
        pdus: [],
        edus: [],
        prev_ids: []
      })
    })
  )

  it.live("refuses requests without a valid signature", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const { blue, red } = servers
      const stranger = generateSigningKey(red, "ed25519:stranger")
      const sameName = generateSigningKey(red, (yield* Context.get(servers.onRed, SigningKeys).current).keyId)
      const unauthorized = (altered: Alteration) => refused(servers, altered, 401, "M_UNAUTHORIZED")
      yield* unauthorized({ destination: "elsewhere.org" as ServerName })
      yield* unauthorized({ key: stranger })
      yield* unauthorized({ key: sameName })
      yield* unauthorized({ origin: blue })
      yield* unauthorized({ origin: blue, key: yield* Context.get(servers.onBlue, SigningKeys).current })
      yield* unauthorized({ signedPath: "/matrix/federation/v1/send/t9" })
      yield* unauthorized({ signedPath: "/matrix/federation/v1/send/t1?x" })
      yield* unauthorized({ body: '{"pdus":[{"forged":1}]}', signedBody: "{}" })
      yield* unauthorized({ origin: `127.0.0.1:1` as ServerName })
      const valid = yield* authorizationOf(
        { method: "PUT", uri: "/matrix/federation/v1/send/t1", origin: red, destination: blue },
        Buffer.from("{}"),
        yield* Context.get(servers.onRed, SigningKeys).current
      )
      const unsigned: ReadonlyArray<Ask["headers"]> = [
        {},
        { authorization: "Bearer abc" },
        { authorization: "X-Matrix origin=,key=,sig=" },
        { authorization: `${valid},origin=evil.org` },
        { authorization: `${valid},destination="elsewhere.org"` },
        { authorization: `${valid},X-Matrix origin="elsewhere.org",key="ed25519:1",sig="abc"` }
      ]
      for (const headers of unsigned) {
        const path = "/matrix/federation/v1/send/t1"
        const answer = yield* ask({ port: servers.port, method: "PUT", path, headers: headers ?? {}, body: "{}" })
        assert.deepStrictEqual([answer.status, answer.body.errcode], [401, "M_UNAUTHORIZED"], JSON.stringify(headers))
      }
      const authorization = 'X-Matrix origin="localhost:http",key="ed25519:1",sig="abc"'
      const head = { port: servers.port, method: "PUT", path: "/matrix/federation/v1/send/t1" }
      const noName = yield* ask({ ...head, headers: { authorization }, body: "{}" })
      assert.deepStrictEqual([noName.status, noName.body.errcode], [400, "M_UNKNOWN"])
      assert.deepStrictEqual(received(servers).transactions, [])
      assert.deepStrictEqual(received(servers).heardFrom, [])
    })
  )

  it.live("refuses requests that a replaced key has signed", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const keys = Context.get(servers.onRed, SigningKeys)
      const old = yield* keys.current
      yield* keys.rotate
      assert.strictEqual((yield* send(servers)).status, 200)
      const answer = yield* send(servers, { key: old })
      assert.deepStrictEqual([answer.status, answer.body.errcode], [401, "M_UNAUTHORIZED"])
    })
  )

  it.live("refuses signed requests with invalid bodies, with a specific error", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      yield* refused(servers, { body: "not JSON" }, 400, "M_NOT_JSON")
      yield* refused(servers, { body: "not JSON", signedBody: "{}" }, 400, "M_NOT_JSON")
      yield* refused(servers, { body: Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]) }, 400, "M_NOT_JSON")
      yield* refused(servers, { body: "[]" }, 400, "M_BAD_JSON")
      yield* refused(servers, { body: '{"pdus":{}}' }, 400, "M_BAD_JSON")
      yield* refused(servers, { body: '{"prev_ids":[1]}' }, 400, "M_BAD_JSON")
      yield* refused(servers, { body: '{"destination":"elsewhere.org"}' }, 400, "M_UNKNOWN")
      yield* refused(servers, { body: '{"origin":"elsewhere.org"}' }, 400, "M_UNKNOWN")
      yield* refused(servers, { body: JSON.stringify({ pdus: Array(1_000).fill({}) }) }, 413, "M_TOO_LARGE")
      yield* refused(servers, { body: JSON.stringify({ edus: Array(101).fill({}) }) }, 413, "M_TOO_LARGE")
      yield* refused(servers, { body: " ".repeat(9_000_000) }, 413, "M_TOO_LARGE")
      yield* refused(servers, { body: `{"pdus":["${"x".repeat(3_000_000)}"]}` }, 413, "M_TOO_LARGE")
    })
  )

  it.live("receives a transaction with a PDU of 1 MB whole", () =>
    Effect.gen(function* () {
      const servers = yield* twoServers
      const client = Context.get(servers.onRed, FederationClient)
      const pdus = [{ text: "x".repeat(1_000_000) }, { text: "small" }]
      yield* client.sendTransaction(servers.blue, transactionBetween(servers, pdus))
      assert.deepStrictEqual(received(servers).transactions[0]?.pdus, pdus)
    })
  )

  it.live("answers unknown paths and wrong methods with an error", () =>
    Effect.gen(function* () {
      const { port } = yield* twoServers
      const outcomeOf = (method: string, path: string) => Effect.map(ask({ port, method, path }), outcome)
      assert.strictEqual(yield* outcomeOf("GET", "/matrix/federation/v1/nothing"), "404 M_UNRECOGNIZED")
      assert.strictEqual(yield* outcomeOf("DELETE", "/matrix/federation/v1/pull"), "405 M_UNRECOGNIZED")
      assert.strictEqual(yield* outcomeOf("GET", "/matrix/federation/v1/pull"), "401 M_UNAUTHORIZED")
      assert.strictEqual(yield* outcomeOf("GET", "/matrix/federation/v1/%ff"), "400 M_UNKNOWN")
      assert.strictEqual(yield* outcomeOf("GET", "/"), "404 M_UNRECOGNIZED")
    })
  )

  it.live("publishes its keys, including replaced ones, in a signed answer", () =>
    Effect.gen(function* () {
      const { blue, onBlue, port } = yield* twoServers
      const keys = Context.get(onBlue, SigningKeys)
      const old = yield* keys.current
      const current = yield* keys.rotate
      for (const path of [
        "/matrix/key/v1",
        "/_matrix/key/v1",
        "/matrix/key/v1/",
        "/_matrix/key/v2/server",
        "/_matrix/key/v2/server/",
        "/_matrix/key/v2/server/ed25519:a"
      ]) {
        const { body, status } = yield* ask({ port, path })
        assert.strictEqual(status, 200)
        assert.strictEqual(body.server_name, blue)
        assert.deepStrictEqual(Object.keys(body.verify_keys as object), [current.keyId])
        assert.deepStrictEqual(Object.keys(body.old_verify_keys as object), [old.keyId])
        assert.isAbove(body.valid_until_ts as number, Date.now())
        const published = (yield* keys.list).map((key) => [key.keyId, key.publicKey] as const)
        assert.isTrue(Result.isSuccess(verifyJson(body as never, blue, new Map(published))))
      }
    })
  )

  it.live("answers for the keys of an unreachable server, with its earlier ones, signed by both servers", () =>
    Effect.gen(function* () {
      const [red, blue] = [yield* freePort, yield* freePort].map((port) => `127.0.0.1:${port}` as ServerName)
      const onBlue = yield* Layer.build(server(blue!))
      const ours = yield* Context.get(onBlue, SigningKeys).current
      const port = Number(blue!.slice(blue!.indexOf(":") + 1))
      /** Starts a server with the name of red and new keys, sends a request to blue, and stops it. Returns its key. */
      const keyOfRed = Effect.scoped(
        Effect.gen(function* () {
          const onRed = yield* Layer.build(Layer.fresh(server(red!)))
          // Blue requests the keys of a server at most once a second.
          const asked = Context.get(onRed, FederationClient).queryProfile(`@a:${blue}` as UserId)
          yield* Effect.retry(asked, { schedule: Schedule.spaced("100 millis") })
          return verifyKeyOf(yield* Context.get(onRed, SigningKeys).current)
        })
      )
      const keys = [yield* keyOfRed, yield* keyOfRed]
      const nobody = `127.0.0.1:${yield* freePort}`
      const criteria = { [red!]: {}, [blue!]: {}, [nobody]: {}, "no server name": {} }
      const answers = [
        yield* ask({ port, path: `/_matrix/key/v2/query/${red}` }),
        yield* ask({
          port,
          method: "POST",
          path: "/_matrix/key/v2/query",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ server_keys: criteria })
        }),
        yield* ask({ port, path: `/_matrix/key/v2/query/${red}/ed25519:any` })
      ]
      for (const { body, status } of answers) {
        assert.strictEqual(status, 200)
        const objects = (body.server_keys as ReadonlyArray<JsonObject>).filter(({ server_name }) => server_name === red)
        assert.lengthOf(objects, 2)
        for (const [index, key] of keys.toReversed().entries()) {
          const object = objects[index]!
          const [keyId] = Object.keys(object.verify_keys as object)
          assert.isTrue(Result.isSuccess(verifyJson(object, red!, new Map([[keyId!, key]]))))
          assert.isTrue(Result.isSuccess(verifyJson(object, blue!, new Map([[ours.keyId, verifyKeyOf(ours)]]))))
        }
      }
      const earlier = answers[0]!.body.server_keys as ReadonlyArray<JsonObject>
      const [earlierId = ""] = Object.keys(earlier[1]!.verify_keys as object)
      const ofOne = yield* ask({ port, path: `/_matrix/key/v2/query/${red}/${encodeURIComponent(earlierId)}` })
      assert.deepStrictEqual(ofOne.body.server_keys, [earlier[1]])
      const servers = (answers[1]!.body.server_keys as ReadonlyArray<JsonObject>).map(({ server_name }) => server_name)
      assert.sameMembers(servers, [blue, red, red])
      assert.deepStrictEqual((yield* ask({ port, path: `/_matrix/key/v2/query/${nobody}` })).body, { server_keys: [] })
      for (const body of ["", "[]", '{"server_keys": []}', '{"server_keys": {"a.b": {"ed25519:a": 1}}}']) {
        assert.strictEqual((yield* ask({ port, method: "POST", path: "/_matrix/key/v2/query", body })).status, 400)
      }
    })
  )

  it.live("limits the guesses of OpenID tokens from one address", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const anonymous = { limit: 3, window: 600_000 }
      yield* Layer.build(
        server(`127.0.0.1:${port}` as ServerName, { rates: { anonymous, requests: "off", sends: "off" } })
      )
      const guess = (n: number) => ask({ port, path: `/_matrix/federation/v1/openid/userinfo?access_token=guess${n}` })
      for (let n = 0; n < 3; n++) assert.notStrictEqual((yield* guess(n)).status, 429)
      const { body, status } = yield* guess(3)
      assert.deepInclude({ status, errcode: body.errcode }, { status: 429, errcode: "M_LIMIT_EXCEEDED" })
      assert.strictEqual((yield* ask({ port, path: "/_matrix/federation/v1/version" })).status, 429)
      assert.strictEqual((yield* ask({ port, path: "/_matrix/key/v2/query/red.test" })).status, 429)
    })
  )

  it.live("counts the requests of a server that only read among reads, also where they are made by POST", () =>
    Effect.gen(function* () {
      const once = { limit: 1, window: 600_000 }
      const servers = yield* twoServersWith({ rates: { anonymous: "off", requests: "off", sends: once } })
      for (const read of ["publicRooms", `get_missing_events/${roomId}`, "user/keys/query"]) {
        const answer = yield* send(servers, { method: "POST", path: `/_matrix/federation/v1/${read}`, body: "{}" })
        assert.notStrictEqual(answer.status, 429, read)
      }
      assert.strictEqual((yield* send(servers)).status, 200)
      assert.strictEqual((yield* send(servers)).status, 429)
    })
  )

  it.live("limits the requests of a server, and not those of another one", () =>
    Effect.gen(function* () {
      const [red, green, blue] = [yield* freePort, yield* freePort, yield* freePort].map(
        (port) => `127.0.0.1:${port}` as ServerName
      )
      const rate = { limit: 3, window: 600_000 }
      yield* Layer.build(server(blue!, { rates: { anonymous: "off", requests: rate, sends: rate } }))
      const [onRed, onGreen] = [yield* Layer.build(server(red!)), yield* Layer.build(server(green!))]
      const query = (on: typeof onRed) => Context.get(on, FederationClient).queryProfile(`@a:${blue}` as UserId)
      for (let i = 0; i < 3; i++) yield* query(onRed)
      const error = yield* Effect.flip(query(onRed))
      assert.deepInclude(error, { _tag: "RemoteRefused", status: 429, errcode: "M_LIMIT_EXCEEDED" })
      yield* query(onGreen)
    })
  )
})
