import { assert, layer } from "@effect/vitest"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { OnBind } from "@greenroom/protocol/identity/OnBind"
import { decodeBase64, importVerifyKey, verifyJson, verifyKeyOf } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Layer, Queue, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Mailbox } from "./support/Mailbox.ts"
import { ask, bind, database, identityWith, serverName, serverOn } from "./support/TestIdentity.ts"
import { HomeServer, makeWebServer } from "./support/WebServer.ts"

const homeServer = Layer.effect(HomeServer, makeWebServer)

const knownHomeServers = ({ url }: HomeServer["Service"]) => new Map([["home.test", url]])

const withHomeServer = HomeServer.use((server) =>
  Effect.succeed(identityWith({ identity: { homeServers: knownHomeServers(server) } }))
).pipe(Layer.unwrap, Layer.provideMerge(homeServer))

const invite = (address: string, more: object = {}) =>
  ask("POST", "/store-invite", {
    medium: "email",
    address,
    room_id: "!room:inviting.test",
    sender: "@inviter:inviting.test",
    ...more
  })

/** A web server that takes requests and answers none. */
const silentServer = Effect.gen(function* () {
  const requests = yield* Queue.unbounded<void>()
  const url = yield* serveHttp(() => Queue.offerUnsafe(requests, undefined))
  return { url, asked: Queue.take(requests) }
})

const takeMail = Mailbox.use(({ take }) => take)
const takeOnBind = Effect.map(
  HomeServer.use(({ take }) => take),
  (request) => ({ ...request, body: Schema.decodeUnknownSync(OnBind)(request.body) })
)

layer(withHomeServer, { excludeTestServices: true })("invitations of addresses", (it) => {
  it.effect("an invited address gets a mail, and binding it notifies the home server of the user", () =>
    Effect.gen(function* () {
      const stored = yield* invite("Alice@example.org", { room_name: "The Green Room", sender_display_name: "Inga" })
      assert.strictEqual(stored.status, 200, stored.text)
      assert.strictEqual(stored.body.display_name, "a...@e...")
      const mail = yield* takeMail
      assert.deepStrictEqual(mail.to, ["alice@example.org"])
      assert.include(mail.headers, "Subject: Inga invites you to a conversation")
      assert.include(mail.text, "The Green Room")
      const second = yield* invite("alice@example.org", { room_id: "!other:inviting.test" })
      yield* takeMail
      assert.notStrictEqual(second.body.token, stored.body.token)

      yield* bind("alice@example.org", "@alice:home.test")
      const { body, method, path } = yield* takeOnBind
      assert.strictEqual(method, "POST")
      assert.strictEqual(path, "/_matrix/federation/v1/3pid/onbind")
      assert.deepInclude(body, { medium: "email", address: "alice@example.org", mxid: "@alice:home.test" as UserId })
      assert.deepStrictEqual(
        new Set(body.invites.map(({ room_id }) => room_id as string)),
        new Set(["!room:inviting.test", "!other:inviting.test"])
      )
      const { key_validity_url, public_key } = stored.body.public_keys[0]!
      assert.match(key_validity_url, /\/_matrix\/identity\/api\/v1\/pubkey\/isvalid$/)
      const key = Result.getOrThrow(importVerifyKey(decodeBase64(public_key)!))
      for (const { signed } of body.invites) {
        assert.include([stored.body.token, second.body.token], signed.token)
        assert.strictEqual(signed.mxid, "@alice:home.test" as UserId)
        const keys = new Map(Object.keys(signed.signatures[serverName]!).map((id) => [id, key]))
        assert.isTrue(Result.isSuccess(verifyJson(signed as never, serverName, keys)))
      }
    })
  )

  it.effect("an invitation from before a key rotation is signed with the key that was published then", () =>
    Effect.gen(function* () {
      const stored = yield* invite("nina@example.org")
      yield* takeMail
      const publicKey = Result.getOrThrow(importVerifyKey(decodeBase64(stored.body.public_key)!))
      const { current, rotate } = yield* SigningKeys
      const { keyId } = yield* current
      const renewed = yield* rotate
      yield* bind("nina@example.org", "@nina:home.test")
      const { signed } = (yield* takeOnBind).body.invites[0]!
      for (const key of [new Map([[keyId, publicKey]]), new Map([[renewed.keyId, verifyKeyOf(renewed)]])]) {
        assert.isTrue(Result.isSuccess(verifyJson(signed as never, serverName, key)))
      }
    })
  )

  it.effect("an invitation of a bound address is refused", () =>
    Effect.gen(function* () {
      yield* bind("bob@example.org", "@bob:home.test")
      const refused = yield* invite("bob@example.org")
      assert.strictEqual(refused.status, 400)
      assert.deepInclude(refused.body, { errcode: "M_THREEPID_IN_USE", mxid: "@bob:home.test" })
      assert.strictEqual(yield* Mailbox.use(({ waiting }) => waiting), 0)
    })
  )

  it.effect("the notification of a home server is repeated if it fails, but not if it is refused", () =>
    Effect.gen(function* () {
      const server = yield* HomeServer
      server.answer(503, 200)
      yield* invite("carol@example.org")
      yield* takeMail
      yield* bind("carol@example.org", "@carol:home.test")
      const first = yield* takeOnBind
      const second = yield* takeOnBind
      assert.deepStrictEqual(second.body, first.body)
      server.answer(403)
      yield* invite("dave@example.org")
      yield* takeMail
      yield* bind("dave@example.org", "@dave:home.test")
      yield* takeOnBind
      server.answer(200)
      yield* invite("erin@example.org")
      yield* takeMail
      yield* bind("erin@example.org", "@erin:home.test")
      assert.strictEqual((yield* takeOnBind).body.mxid, "@erin:home.test" as UserId)
      assert.strictEqual(yield* server.waiting, 0)
    })
  )

  it.effect("names in a mail add neither headers nor links", () =>
    Effect.gen(function* () {
      yield* invite("frank@example.org", {
        sender_display_name: "Mallory\r\nBcc: victim@example.org\r\n\r\n<b>hello</b>",
        room_name: "<img src=x>\u202e"
      })
      const mail = yield* takeMail
      assert.deepStrictEqual(mail.to, ["frank@example.org"])
      assert.isFalse(mail.headers.some((header) => /^bcc/i.test(header)))
      assert.include(mail.html, "&lt;b&gt;hello&lt;/b&gt;")
      assert.include(mail.html, "&lt;img src=x&gt;")
      assert.notInclude(mail.text, "\u202e")
      for (const name of ["Buy at https://evil.example", "www.evil.example", "evil.example/cheap", "x".repeat(500)]) {
        yield* invite("frank@example.org", { sender_display_name: name, room_name: name })
        const mail = yield* takeMail
        assert.notInclude(mail.raw, "evil")
        assert.notInclude(mail.raw, "xxxx")
        assert.include(mail.text, "@inviter:inviting.test")
      }
    })
  )

  it.effect("mails to an address are limited for all inviters together", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 5; i++) {
        assert.strictEqual((yield* invite("grace@example.org", { room_id: `!r${i}:inviting.test` })).status, 200)
        yield* takeMail
      }
      assert.strictEqual((yield* invite("grace@example.org")).status, 429)
      yield* SqlClient.SqlClient.use((sql) => sql`DELETE FROM sent_messages`)
      yield* bind("grace@example.org", "@grace:home.test")
      assert.strictEqual((yield* takeOnBind).body.invites.length, 5)
    })
  )

  it.effect("malformed invitations are refused", () =>
    Effect.gen(function* () {
      for (const [key, value] of [
        ["room_id", "room"],
        ["sender", "me"],
        ["medium", "pigeon"],
        ["room_name", "x".repeat(2_000)]
      ] as const) {
        const answer = yield* invite("heidi@example.org", { [key]: value })
        assert.strictEqual(answer.body.errcode, "M_BAD_JSON")
        assert.include(answer.body.error, key)
      }
      assert.strictEqual((yield* invite("heidi")).body.errcode, "M_INVALID_ADDRESS")
    })
  )
})

layer(Layer.mergeAll(database, Mailbox.layer), { excludeTestServices: true })("restarts", (it) => {
  it.effect("an unreachable home server is notified after a restart of the identity server", () =>
    Effect.gen(function* () {
      const away = serverOn({ identity: { homeServers: new Map([["home.test", "http://127.0.0.1:1"]]) } })
      yield* Effect.gen(function* () {
        yield* invite("ivan@example.org")
        yield* takeMail
        yield* bind("ivan@example.org", "@ivan:home.test")
      }).pipe(Effect.provide(away))
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE onbind_queue SET next_attempt_at = 0`
      const server = yield* makeWebServer
      const back = serverOn({ identity: { homeServers: knownHomeServers(server) } })
      yield* Effect.gen(function* () {
        const { body } = yield* server.take
        assert.strictEqual((body as OnBind).mxid, "@ivan:home.test" as UserId)
        assert.strictEqual(serverNameOf((body as OnBind).mxid), "home.test")
      }).pipe(Effect.provide(back))
    })
  )

  it.effect("a home server that stays silent does not delay the notifications of others", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM onbind_queue`
      const silent = yield* silentServer
      const server = yield* makeWebServer
      for (let entry = 0; entry < 40; entry++) {
        yield* sql`
          INSERT INTO onbind_queue (server_name, body, next_attempt_at, created_at)
          VALUES ('silent.test', '{}', 0, ${Date.now()})`
      }
      const known = new Map([...knownHomeServers(server), ["silent.test", silent.url]])
      yield* Effect.gen(function* () {
        yield* silent.asked
        yield* invite("mona@example.org")
        yield* takeMail
        yield* bind("mona@example.org", "@mona:home.test")
        assert.strictEqual(((yield* server.take).body as OnBind).mxid, "@mona:home.test" as UserId)
        const [row] = yield* sql<{ tried: bigint }>`SELECT count(*) AS tried FROM onbind_queue WHERE attempts > 0`
        assert.isBelow(Number(row!.tried), 8)
      }).pipe(Effect.provide(serverOn({ identity: { homeServers: known } })))
    })
  )

  it.effect("callbacks to addresses that are not public are refused", () =>
    Effect.gen(function* () {
      const server = yield* makeWebServer
      const host = new URL(server.url).host
      yield* Effect.gen(function* () {
        for (const [name, target] of [
          ["judy", host],
          ["kim", `localhost:${new URL(server.url).port}`],
          ["leo", `[::1]:${new URL(server.url).port}`]
        ]) {
          yield* invite(`${name}@example.org`)
          yield* takeMail
          yield* bind(`${name}@example.org`, `@${name}:${target}`)
        }
        const sql = yield* SqlClient.SqlClient
        const tried = sql<{ count: bigint }>`SELECT count(*) FROM onbind_queue WHERE attempts > 0`
        yield* Effect.repeat(tried, { until: ([row]) => Number(row!.count) >= 3 })
        assert.strictEqual(yield* server.waiting, 0)
      }).pipe(Effect.provide(serverOn()))
    })
  )
})
