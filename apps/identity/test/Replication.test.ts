import { assert, layer } from "@effect/vitest"
import { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { generateSigningKey, type SigningKey, signJson, verifyJson, verifyKeyOf } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Clock, Context, Deferred, Effect, Exit, Fiber, Layer, Result, Schedule, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { hashAddress } from "../src/AddressHash.ts"
import { Associations } from "../src/Associations.ts"
import { IdentityHttp } from "../src/IdentityHttp.ts"
import type { Peer } from "../src/IdentityOptions.ts"
import { Peppers } from "../src/Peppers.ts"
import { Mailbox } from "./support/Mailbox.ts"
import { type AnswerBody, ask, askUrl, bind, database, hour, identityWith, serverOn } from "./support/TestIdentity.ts"

type Server = Context.Context<IdentityHttp | Mailbox>

/** An identity server that can be stopped and started again with its database and port. */
const makeMember = Effect.fnUntraced(function* (text: string) {
  const name = ServerName.make(text)
  const port = yield* freePort
  const shared = yield* Layer.build(Layer.mergeAll(database, Mailbox.layer))
  const withKeys = <A>(use: (keys: SigningKeys["Service"]) => Effect.Effect<A>) =>
    SigningKeys.use(use).pipe(Effect.provide(SigningKeys.layer(name)), Effect.provide(shared))
  const peerWith = (key: SigningKey): Peer => ({
    name,
    url: `http://127.0.0.1:${port}`,
    keys: new Map([[key.keyId, verifyKeyOf(key)]])
  })
  const peer = peerWith(yield* withKeys(({ current }) => current))
  /** Replaces its key. Returns the peer settings with the new one. */
  const rotate = Effect.map(
    withKeys(({ rotate }) => rotate),
    peerWith
  )
  const start = Effect.fnUntraced(function* (peers: ReadonlyArray<Peer>) {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* serverOn({
      identity: { serverName: name, peers },
      http: { host: "127.0.0.1", port, trustedProxies: [] }
    }).pipe(Layer.build, Effect.provide(shared), Scope.provide(scope))
    return { context: Context.merge(shared, context) as Server, stop: Scope.close(scope, Exit.void) }
  })
  const lookup = (address: string) =>
    Effect.map(
      askUrl("GET", `${peer.url}${laterIdentityPrefix}/lookup?medium=email&address=${encodeURIComponent(address)}`),
      ({ body }) => body
    )
  return { name, peer, start, lookup, rotate }
})

const on = <A, E>(server: { readonly context: Server }, effect: Effect.Effect<A, E, IdentityHttp | Mailbox>) =>
  Effect.provide(effect, server.context)

/** Waits until the lookup returns the user. */
const until = (lookup: Effect.Effect<AnswerBody>, mxid: string | undefined) =>
  Effect.repeat(lookup, { until: (found) => found.mxid === mxid })

layer(Layer.empty, { excludeTestServices: true })("replication between identity servers", (it) => {
  it.effect("a binding or unbinding at one server reaches the others, signed by both", () =>
    Effect.gen(function* () {
      const red = yield* makeMember("red.test")
      const blue = yield* makeMember("blue.test")
      const redServer = yield* red.start([blue.peer])
      const blueServer = yield* blue.start([red.peer])
      const { session } = yield* on(redServer, bind("alice@example.org", "@alice:a.test"))
      const found = yield* until(blue.lookup("alice@example.org"), "@alice:a.test")
      for (const { peer } of [red, blue]) {
        assert.isTrue(Result.isSuccess(verifyJson(found as never, peer.name, peer.keys)), peer.name)
      }
      yield* on(blueServer, bind("alice@example.org", "@alice:b.test"))
      yield* until(red.lookup("alice@example.org"), "@alice:b.test")
      const threepid = { medium: "email", address: "alice@example.org" }
      const unbound = yield* askUrl("POST", `${red.peer.url}${laterIdentityPrefix}/3pid/unbind`, {
        ...session,
        mxid: "@alice:b.test",
        threepid
      })
      assert.strictEqual(unbound.status, 200)
      yield* until(blue.lookup("alice@example.org"), undefined)
    })
  )

  it.effect("a server that was stopped gets the missed records, and a new one gets all", () =>
    Effect.gen(function* () {
      const red = yield* makeMember("red.test")
      const blue = yield* makeMember("blue.test")
      const redServer = yield* red.start([blue.peer])
      yield* on(redServer, bind("bob@example.org", "@bob:a.test"))
      const blueServer = yield* blue.start([red.peer])
      yield* until(blue.lookup("bob@example.org"), "@bob:a.test")
      yield* blueServer.stop
      yield* on(redServer, bind("carol@example.org", "@carol:a.test"))
      yield* redServer.stop
      yield* red.start([blue.peer])
      yield* blue.start([red.peer])
      yield* until(blue.lookup("carol@example.org"), "@carol:a.test")
    })
  )

  it.effect("a peer that knows only the new key of a server accepts records signed with the old one", () =>
    Effect.gen(function* () {
      const red = yield* makeMember("red.test")
      const blue = yield* makeMember("blue.test")
      const redServer = yield* red.start([])
      yield* on(redServer, bind("dora@example.org", "@dora:a.test"))
      yield* redServer.stop
      const renewed = yield* red.rotate
      yield* red.start([blue.peer])
      yield* blue.start([renewed])
      const found = yield* until(blue.lookup("dora@example.org"), "@dora:a.test")
      for (const { keys } of [red.peer, renewed]) {
        assert.isTrue(Result.isSuccess(verifyJson(found as never, red.name, keys)))
      }
    })
  )

  it.effect("servers that bind the same address concurrently agree on one binding", () =>
    Effect.gen(function* () {
      const red = yield* makeMember("red.test")
      const blue = yield* makeMember("blue.test")
      const redServer = yield* red.start([blue.peer])
      const blueServer = yield* blue.start([red.peer])
      yield* Effect.all(
        [
          on(redServer, bind("dave@example.org", "@dave:a.test")),
          on(blueServer, bind("dave@example.org", "@dave:b.test"))
        ],
        { concurrency: 2 }
      )
      yield* on(redServer, bind("last@example.org", "@last:a.test"))
      yield* on(blueServer, bind("last2@example.org", "@last:b.test"))
      yield* until(blue.lookup("last@example.org"), "@last:a.test")
      yield* until(red.lookup("last2@example.org"), "@last:b.test")
      assert.strictEqual((yield* red.lookup("dave@example.org")).mxid, (yield* blue.lookup("dave@example.org")).mxid)
    })
  )
})

const peerName = ServerName.make("peer.test")
const peerKey = generateSigningKey(peerName, "ed25519:peer")
const strangerKey = generateSigningKey(peerName, "ed25519:peer")
const peer: Peer = {
  name: peerName,
  url: "http://127.0.0.1:1",
  keys: new Map([[peerKey.keyId, verifyKeyOf(peerKey)]])
}

const sign = (object: object, key: SigningKey) => Result.getOrThrow(signJson(object as JsonObject, key))

const record = (address: string, mxid: string | null, ts: number, key = peerKey) =>
  sign({ medium: "email", address, mxid, ts, not_before: 0, not_after: ts + 1_000 * hour }, key)

const envelope = (records: ReadonlyArray<unknown>, ts: number, more: object = {}) => ({
  origin: peerName,
  destination: "id.test",
  ts,
  records,
  ...more
})

const post = Effect.fnUntraced(function* (body: object) {
  const { url } = yield* IdentityHttp
  return yield* askUrl("POST", `${url}/matrix/identity/api/v1/replicate/v1/push`, body)
})

const push = Effect.fnUntraced(function* (...records: ReadonlyArray<unknown>) {
  return yield* post(sign(envelope(records, yield* Clock.currentTimeMillis), peerKey))
})

const find = Effect.fnUntraced(function* (address: string) {
  const { url } = yield* IdentityHttp
  const { body } = yield* askUrl("GET", `${url}/matrix/identity/api/v1/lookup?medium=email&address=${address}`)
  return body.mxid as string | undefined
})

layer(identityWith({ identity: { peers: [peer] } }), { excludeTestServices: true })("hostile pushes", (it) => {
  it.effect("only peers are accepted, each by its own key", () =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const good = envelope([record("a@example.org", "@a:a.test", now)], now)
      const signed = sign(good, peerKey)
      const refused = [
        good,
        sign(good, strangerKey),
        { ...signed, records: [record("a@example.org", "@mallory:a.test", now)] },
        { ...signed, origin: "other.test" },
        sign({ ...good, origin: "other.test" }, { ...peerKey, serverName: ServerName.make("other.test") }),
        sign({ ...good, destination: "other.test" }, peerKey),
        sign({ ...good, ts: now - 6 * 60_000 }, peerKey),
        sign({ ...good, ts: now + 6 * 60_000 }, peerKey),
        { ...signed, signatures: { "peer.test": { "ed25519:peer": "AAAA" } } },
        { ...signed, signatures: [] },
        { ...signed, origin: "__proto__" },
        {}
      ]
      for (const body of refused) {
        const answer = yield* post(body)
        assert.strictEqual(answer.status, 403, JSON.stringify(body))
        assert.strictEqual(answer.body.errcode, "M_FORBIDDEN")
      }
      assert.isUndefined(yield* find("a@example.org"))
      const malformed = sign({ ...good, records: Array(101).fill(good.records[0]) }, peerKey)
      assert.strictEqual((yield* post(malformed)).body.errcode, "M_BAD_JSON")
      assert.strictEqual((yield* post(signed)).status, 200)
      assert.strictEqual(yield* find("a@example.org"), "@a:a.test")
    })
  )

  it.effect("a malformed record does not prevent the others from being accepted", () =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const good = record("b@example.org", "@b:a.test", now)
      const answer = yield* push(
        { ...record("c@example.org", "@c:a.test", now), mxid: "@mallory:a.test" },
        record("c@example.org", "@c:a.test", now, strangerKey),
        record("c@example.org", "@c:a.test", now + 10 * 60_000),
        record("c@example.org\r\nBcc: a", "@c:a.test", now),
        record("C@example.org", "@c:a.test", now),
        record("c@example.org", "nobody", now),
        null,
        good
      )
      assert.strictEqual(answer.status, 200, answer.text)
      assert.deepStrictEqual(
        answer.body.refused.map(({ index }) => index),
        [0, 1, 2, 3, 4, 5, 6]
      )
      assert.isUndefined(yield* find("c@example.org"))
      assert.strictEqual(yield* find("b@example.org"), "@b:a.test")
    })
  )

  it.effect("unknown keys of a record are stored, so that its signature stays valid", () =>
    Effect.gen(function* () {
      const { url } = yield* IdentityHttp
      const now = yield* Clock.currentTimeMillis
      const { signatures: _, ...known } = record("later@example.org", "@later:a.test", now)
      yield* push(sign({ ...known, "org.example.later": { a: 1 } }, peerKey))
      const { body } = yield* askUrl(
        "GET",
        `${url}/matrix/identity/api/v1/lookup?medium=email&address=later@example.org`
      )
      assert.strictEqual(body.mxid, "@later:a.test")
      assert.isTrue(Result.isSuccess(verifyJson(body as never, peerName, peer.keys)))
      const long = sign({ ...known, address: "long@example.org", "org.example.long": "x".repeat(5_000) }, peerKey)
      assert.deepStrictEqual((yield* push(long)).body.refused, [{ index: 0, error: "the record is too long" }])
    })
  )

  it.effect("a replayed or older record changes nothing", () =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const old = sign(envelope([record("d@example.org", "@d:old.test", now - 10)], now), peerKey)
      yield* post(old)
      yield* push(record("d@example.org", "@d:new.test", now))
      assert.strictEqual((yield* post(old)).status, 200)
      assert.strictEqual(yield* find("d@example.org"), "@d:new.test")
      yield* push(record("d@example.org", null, now + 1))
      assert.strictEqual((yield* post(old)).status, 200)
      assert.isUndefined(yield* find("d@example.org"))
    })
  )

  it.effect("a local validation is newer than a peer's record from the future", () =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const ofPeer = record("e@example.org", "@e:peer.test", now + 4 * 60_000)
      yield* push(ofPeer)
      yield* bind("e@example.org", "@e:here.test")
      assert.strictEqual(yield* find("e@example.org"), "@e:here.test")
      // Peers compare the two records in the same way.
      yield* push(ofPeer)
      assert.strictEqual(yield* find("e@example.org"), "@e:here.test")
    })
  )

  it.effect("an association is found from its not_before to its not_after, by its address and by a hash", () =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const { pair } = yield* Peppers
      const { current: pepper } = yield* pair
      for (const [address, not_before, not_after, mxid] of [
        ["ended@example.org", 0, now - 1, undefined],
        ["begins@example.org", now + hour, now + 2 * hour, undefined],
        ["valid@example.org", 0, now + hour, "@h:a.test"]
      ] as const) {
        const { signatures: _, ...known } = record(address, "@h:a.test", now)
        assert.deepStrictEqual((yield* push(sign({ ...known, not_before, not_after }, peerKey))).body.refused, [])
        assert.strictEqual(yield* find(address), mxid, address)
        const hash = hashAddress({ medium: "email", address }, pepper)
        const { body } = yield* ask("POST", "/lookup", { algorithm: "sha256", pepper, addresses: [hash] })
        assert.strictEqual(body.mappings?.[hash], mxid, address)
      }
    })
  )

  it.effect("an association signed by a peer triggers the pending invitations of this server", () =>
    Effect.gen(function* () {
      const { url } = yield* IdentityHttp
      const invited = yield* askUrl("POST", `${url}/matrix/identity/api/v1/store-invite`, {
        medium: "email",
        address: "f@example.org",
        room_id: "!r:a.test",
        sender: "@a:a.test"
      })
      assert.strictEqual(invited.status, 200)
      yield* push(record("f@example.org", "@f:home.test", yield* Clock.currentTimeMillis))
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ body: string }>`SELECT body FROM onbind_queue WHERE server_name = 'home.test'`
      assert.strictEqual(JSON.parse(rows[0]!.body).invites[0].signed.token, invited.body.token)
    })
  )

  it.effect("records of this server become visible to its senders in the order of their numbers", () =>
    Effect.gen(function* () {
      const associations = yield* Associations
      const sql = yield* SqlClient.SqlClient
      const bindTo = (name: string) =>
        associations.bind({ medium: "email", address: `${name}@example.org` }, UserId.make(`@${name}:a.test`))
      const addresses = Effect.map(associations.outgoing(0, 100), (outgoing) =>
        outgoing.map(({ record }) => record.address)
      )
      const [signed, mayCommit] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const first = bindTo("first").pipe(
        Effect.andThen(Deferred.succeed(signed, undefined)),
        Effect.andThen(Deferred.await(mayCommit))
      )
      const committing = yield* Effect.forkChild(sql.withTransaction(first))
      yield* Deferred.await(signed)
      const second = yield* Effect.forkChild(bindTo("second"))
      const blocked = sql`
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
      yield* Effect.race(
        Fiber.await(second),
        Effect.repeat(blocked, { until: (rows) => rows.length > 0, schedule: Schedule.spaced("10 millis") })
      )
      assert.notInclude(yield* addresses, "second@example.org")
      yield* Deferred.succeed(mayCommit, undefined)
      yield* Fiber.join(committing)
      yield* Fiber.join(second)
      assert.includeMembers(yield* addresses, ["first@example.org", "second@example.org"])
    })
  )

  it.effect("records of peers are not replicated to other peers", () =>
    Effect.gen(function* () {
      yield* push(record("g@example.org", "@g:a.test", yield* Clock.currentTimeMillis))
      const associations = yield* Associations
      const outgoing = yield* associations.outgoing(0, 100)
      assert.isFalse(outgoing.some(({ record }) => record.address === "g@example.org"))
    })
  )
})
