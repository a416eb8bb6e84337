import { connect } from "node:net"
import { gzipSync } from "node:zlib"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Gateway } from "../src/Gateway.ts"
import { type Answer, type Ask, ask, createRoom, gateway, inPath, register } from "./TestGateway.ts"

const assertError = (answer: Answer, status: number, errcode: string, mentions?: string) => {
  assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.body.errcode, errcode, answer.text)
  assert.isString(answer.body.error)
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/)
  assert.strictEqual(answer.headers.get("access-control-allow-origin"), "*")
  if (mentions !== undefined) assert.include(answer.body.error, mentions)
}

/** Sends bytes, and reads what the server sends until it closes the connection. */
const sendBytes = Effect.fnUntraced(function* (bytes: string) {
  const { port } = yield* Gateway
  return yield* Effect.callback<string>((resume) => {
    let text = ""
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes))
    socket.on("data", (data) => {
      text += data
    })
    socket.on("close", () => resume(Effect.succeed(text)))
  })
})

layer(gateway, { excludeTestServices: true })("MatrixHttp", (it) => {
  it.effect("web pages of any origin may send any request", () =>
    Effect.gen(function* () {
      for (const path of ["/createRoom", "/rooms/!a:b/send/m.room.message/1", "/no/such/endpoint"]) {
        const answer = yield* ask("OPTIONS", path, {
          headers: { origin: "https://app.example", "access-control-request-method": "PUT" }
        })
        assert.strictEqual(answer.status, 200)
        assert.strictEqual(answer.headers.get("access-control-allow-origin"), "*")
        assert.include(answer.headers.get("access-control-allow-methods"), "PUT")
        assert.match(answer.headers.get("access-control-allow-headers") ?? "", /authorization/i)
        assert.match(answer.headers.get("access-control-allow-headers") ?? "", /content-type/i)
      }
      const flows = yield* ask("GET", "/login")
      assert.strictEqual(flows.headers.get("access-control-allow-origin"), "*")
    })
  )

  it.effect("U+0000 in a path or a query is refused", () =>
    Effect.gen(function* () {
      for (const path of ["/profile/@a%00:green.test", "//_greenroom/validate/email?sid=%00", "//health?x=%00"]) {
        assertError(yield* ask("GET", path), 400, "M_INVALID_PARAM", "U+0000")
      }
    })
  )

  it.effect("an unknown path is 404 and a wrong method 405 M_UNRECOGNIZED", () =>
    Effect.gen(function* () {
      assertError(yield* ask("GET", "/no/such/endpoint"), 404, "M_UNRECOGNIZED")
      assertError(yield* ask("GET", "//_matrix"), 404, "M_UNRECOGNIZED")
      assertError(yield* ask("GET", "//_matrix/client/r0/no/such/endpoint"), 404, "M_UNRECOGNIZED")
      const wrong = yield* ask("DELETE", "/rooms/!a:b/send/m.room.message/1")
      assertError(wrong, 405, "M_UNRECOGNIZED")
      assert.strictEqual(wrong.headers.get("allow"), "PUT")
      assertError(yield* ask("PATCH", "/createRoom"), 405, "M_UNRECOGNIZED")
      assertError(yield* ask("POST", "//health"), 405, "M_UNRECOGNIZED")
    })
  )

  it.effect("a path that is no percent-encoded UTF-8 is refused", () =>
    Effect.gen(function* () {
      assertError(yield* ask("GET", "/profile/%zz"), 400, "M_UNKNOWN", "percent")
      assertError(yield* ask("GET", "/profile/%ff%fe"), 400, "M_UNKNOWN", "percent")
    })
  )

  it.effect("requests without an access token, or with an unknown one, are refused", () =>
    Effect.gen(function* () {
      assertError(yield* ask("GET", "/initialSync"), 401, "M_MISSING_TOKEN")
      assertError(yield* ask("GET", "/initialSync?access_token="), 401, "M_MISSING_TOKEN")
      assertError(yield* ask("GET", "/initialSync?access_token=none"), 401, "M_UNKNOWN_TOKEN")
      assertError(yield* ask("GET", "/initialSync", { token: "none" }), 401, "M_UNKNOWN_TOKEN")
      assertError(yield* ask("PUT", "/rooms/!a:b/send/m.room.message/1", { body: "{" }), 401, "M_MISSING_TOKEN")
    })
  )

  it.effect("a body that is not JSON is M_NOT_JSON, one that lacks a key is M_BAD_JSON and names it", () =>
    Effect.gen(function* () {
      const alice = yield* register("json-alice")
      const room = yield* createRoom(alice)
      const post = (path: string, options: Ask) => ask("POST", path, { token: alice.token, ...options })
      const send = `/rooms/${inPath(room)}/send/m.room.message`
      assertError(yield* post(send, { body: "{" }), 400, "M_NOT_JSON")
      assertError(yield* post(send, { body: "" }), 400, "M_NOT_JSON")
      assertError(yield* post(send, { json: [] }), 400, "M_BAD_JSON")
      assertError(yield* post(send, { json: "text" }), 400, "M_BAD_JSON")
      assertError(yield* post(send, { json: { body: "no msgtype" } }), 400, "M_BAD_JSON", "msgtype")
      assertError(yield* post(`/rooms/${inPath(room)}/invite`, { json: {} }), 400, "M_BAD_JSON", "user_id")
      assertError(yield* post(`/rooms/${inPath(room)}/invite`, { json: { user_id: 5 } }), 400, "M_BAD_JSON", "user_id")
      assertError(yield* post("/createRoom", { json: { invite: "bob" } }), 400, "M_BAD_JSON", "invite")
      assertError(yield* ask("POST", "/login", { json: { type: "m.login.password" } }), 400, "M_BAD_JSON", "user")
    })
  )

  it.effect("a body that is not UTF-8 is M_NOT_JSON, and no event comes of it", () =>
    Effect.gen(function* () {
      const alice = yield* register("utf8-alice")
      const room = yield* createRoom(alice)
      const send = `/rooms/${inPath(room)}/send/m.room.message`
      const wrong = [[0xff], [0xc0, 0xaf], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]]
      for (const bytes of wrong) {
        const body = Buffer.concat([Buffer.from('{"msgtype":"m.text","body":"'), Buffer.from(bytes), Buffer.from('"}')])
        for (const start of ["", "//_matrix/client/api/v1"]) {
          const answer = yield* ask("POST", start + send, { token: alice.token, body })
          assertError(answer, 400, "M_NOT_JSON", "UTF-8")
        }
      }
      const right = '{"msgtype":"m.text","body":"\ufffd ünïcödé \u{1f600}"}'
      assert.strictEqual((yield* ask("POST", send, { token: alice.token, body: right })).status, 200)
      const { body } = yield* ask("GET", `/rooms/${inPath(room)}/messages?dir=b`, { token: alice.token })
      const messages = body.chunk.filter(({ type }) => type === "m.room.message")
      assert.deepStrictEqual(
        messages.map(({ content }) => content.body),
        ["\ufffd ünïcödé \u{1f600}"]
      )
    })
  )

  it.effect("a body is decoded as JSON whatever its content type", () =>
    Effect.gen(function* () {
      const alice = yield* register("type-alice")
      const types = ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "nonsense"]
      for (const type of types) {
        const answer = yield* ask("POST", "/createRoom", {
          token: alice.token,
          body: '{"name":"a"}',
          headers: { "content-type": type }
        })
        assert.strictEqual(answer.status, 200, `${type}: ${answer.text}`)
      }
    })
  )

  it.effect("a body over the limit is M_TOO_LARGE, with and without a declared length", () =>
    Effect.gen(function* () {
      const alice = yield* register("large-alice")
      const large = JSON.stringify({ topic: "x".repeat(1_100_000) })
      assertError(yield* ask("POST", "/createRoom", { token: alice.token, body: large }), 413, "M_TOO_LARGE")
      const half = JSON.stringify({ body: "x".repeat(500_000) })
      const send = `/rooms/${inPath(yield* createRoom(alice))}/send/m.room.message/1`
      assertError(yield* ask("PUT", send, { token: alice.token, body: half }), 413, "M_TOO_LARGE", "393216")
      for (const path of ["/login", "/register?access_token=x", "/account/password"]) {
        assertError(yield* ask("POST", path, { token: alice.token, body: half }), 413, "M_TOO_LARGE", "65536")
      }
      const { port } = yield* Gateway
      const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`
      const answer = yield* sendBytes(
        `POST /matrix/client/api/v1/createRoom?access_token=${alice.token} HTTP/1.1\r\nHost: localhost:${port}\r\n` +
          `Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n${chunk.repeat(20)}0\r\n\r\n`
      )
      assert.match(answer, /^HTTP\/1.1 413 /)
      assert.include(answer, "M_TOO_LARGE")
    })
  )

  it.effect("a body with too many or too deeply nested values is refused before it is parsed", () =>
    Effect.gen(function* () {
      const alice = yield* register("shape-alice")
      const send = `/rooms/${inPath(yield* createRoom(alice))}/send/m.room.message`
      const post = (body: string) => ask("POST", send, { token: alice.token, body })
      const filling = `"${"x".repeat(20_000)}\\"[[[{{{"`
      assertError(yield* post(`{"a":[${"{},".repeat(70_000)}0]}`), 413, "M_TOO_LARGE", "65536")
      assertError(yield* post(`{"a":${filling},"b":${"[".repeat(200)}${"]".repeat(200)}}`), 400, "M_BAD_JSON", "128")
      const good = yield* post(`{"msgtype":"m.text","body":${filling},"many":[${"0,".repeat(10_000)}0]}`)
      assert.strictEqual(good.status, 200, good.text)
    })
  )

  it.effect("malformed and negative parameters of pages are M_BAD_PAGINATION", () =>
    Effect.gen(function* () {
      const alice = yield* register("page-alice")
      const room = yield* createRoom(alice)
      const wrong = ["limit=-1", "limit=many", "dir=up", "from=nonsense"]
      for (const query of wrong) {
        const answer = yield* ask("GET", `/rooms/${inPath(room)}/messages?${query}`, { token: alice.token })
        assertError(answer, 400, "M_BAD_PAGINATION", query.slice(0, query.indexOf("=")))
      }
      assertError(yield* ask("GET", "/events?timeout=-1", { token: alice.token }), 400, "M_BAD_PAGINATION", "timeout")
      assertError(yield* ask("GET", "/events?from=none&timeout=0", { token: alice.token }), 400, "M_BAD_PAGINATION")
    })
  )

  it.effect("IDs of another kind, and IDs that are too long, are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("id-alice")
      const get = (path: string) => ask("GET", path, { token: alice.token })
      for (const path of [`/rooms/${inPath(alice.id)}/state`, `/rooms/${inPath(`!${"x".repeat(300)}:a`)}/state`]) {
        assertError(yield* get(path), 400, "M_UNKNOWN")
      }
      assertError(yield* get(`/rooms/${inPath("!none:green.test")}/state`), 403, "M_FORBIDDEN")
    })
  )

  it.effect("both prefixes lead to the same endpoints", () =>
    Effect.gen(function* () {
      const draft = yield* ask("GET", "//matrix/client/api/v1/login")
      const later = yield* ask("GET", "//_matrix/client/api/v1/login")
      assert.strictEqual(draft.status, 200)
      assert.deepStrictEqual(later.body, draft.body)
    })
  )

  it.effect("HEAD answers as GET, without a body", () =>
    Effect.gen(function* () {
      const answer = yield* ask("HEAD", "/login")
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(answer.text, "")
    })
  )

  it.effect("bytes that are not HTTP are answered with an error", () =>
    Effect.gen(function* () {
      const answer = yield* sendBytes("nonsense\r\n\r\n")
      assert.match(answer, /^HTTP\/1.1 400 /)
      assert.include(answer, "errcode")
      const large = yield* sendBytes(`GET / HTTP/1.1\r\nHost: a\r\nX-Large: ${"x".repeat(20_000)}\r\n\r\n`)
      assert.match(large, /^HTTP\/1.1 431 /)
    })
  )

  it.effect("an expectation other than 100-continue is refused with an error that says so", () =>
    Effect.gen(function* () {
      const answer = yield* sendBytes(
        "POST /matrix/client/api/v1/login HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\n"
      )
      assert.match(answer, /^HTTP\/1.1 417 /)
      assert.include(answer, '{"errcode":"M_UNKNOWN","error":"Expect: ')
    })
  )

  it.effect("a client that waits for 100 Continue sends its body after it", () =>
    Effect.gen(function* () {
      const { port } = yield* Gateway
      const body = '{"type":"m.login.password","user":"nobody","password":"none"}'
      const answer = yield* Effect.callback<string>((resume) => {
        let text = ""
        const socket = connect(port, "127.0.0.1", () =>
          socket.write(
            "POST /matrix/client/api/v1/login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n" +
              `Content-Length: ${body.length}\r\n\r\n`
          )
        )
        socket.on("data", (data) => {
          text += data
          if (text === "HTTP/1.1 100 Continue\r\n\r\n") socket.write(body)
        })
        socket.on("close", () => resume(Effect.succeed(text)))
      })
      assert.match(answer, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 403 /)
      assert.include(answer, "M_FORBIDDEN")
    })
  )

  it.effect("HTTP/1.1 without Host is refused with an error that names it; HTTP/1.0 does without", () =>
    Effect.gen(function* () {
      const refused = yield* sendBytes("GET /matrix/client/api/v1/login HTTP/1.1\r\n\r\n")
      assert.match(refused, /^HTTP\/1.1 400 /)
      assert.include(refused, '{"errcode":"M_UNKNOWN","error":"Host: ')
      assert.match(yield* sendBytes("GET /matrix/client/api/v1/login HTTP/1.0\r\n\r\n"), /^HTTP\/1.1 200 /)
    })
  )

  it.effect("a compressed body is 415, and the answer says that none is accepted", () =>
    Effect.gen(function* () {
      const alice = yield* register("gzip-alice")
      const body = gzipSync('{"name":"compressed"}')
      for (const encoding of ["gzip", "deflate", "br", "identity, gzip"]) {
        const answer = yield* ask("POST", "/createRoom", {
          token: alice.token,
          body,
          headers: { "content-encoding": encoding }
        })
        assertError(answer, 415, "M_UNKNOWN", "Content-Encoding")
        assert.strictEqual(answer.headers.get("accept-encoding"), "identity")
      }
      const plain = { token: alice.token, json: {}, headers: { "content-encoding": "identity" } }
      assert.strictEqual((yield* ask("POST", "/createRoom", plain)).status, 200)
    })
  )

  it.effect("the body null is M_BAD_JSON, also where a body may be absent", () =>
    Effect.gen(function* () {
      const alice = yield* register("null-alice")
      const room = inPath(yield* createRoom(alice))
      const paths = [
        "/createRoom",
        `/rooms/${room}/leave`,
        `/rooms/${room}/join`,
        "/logout",
        ...[
          "logout",
          "createRoom",
          "publicRooms",
          "register",
          `rooms/${room}/report`,
          "delete_devices",
          "account/deactivate"
        ].map((path) => `//_matrix/client/v3/${path}`),
        "//_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
      ]
      for (const path of paths) {
        assertError(yield* ask("POST", path, { token: alice.token, body: "null" }), 400, "M_BAD_JSON")
      }
      assert.strictEqual((yield* ask("POST", "/logout", { token: alice.token })).status, 200)
    })
  )

  it.effect("pipelined requests are answered in order, up to a limit", () =>
    Effect.gen(function* () {
      const alice = yield* register("ahead-alice")
      const poll = (last = "") =>
        `GET /matrix/client/api/v1/events?timeout=1&access_token=${alice.token} HTTP/1.1\r\nHost: a\r\n${last}\r\n`
      const login = "GET /matrix/client/api/v1/login HTTP/1.1\r\nHost: a\r\n\r\n"
      const answers = yield* sendBytes(poll() + login.repeat(30) + poll("Connection: close\r\n"))
      const statuses = answers.match(/HTTP\/1.1 200 /g)
      assert.lengthOf(statuses ?? [], 32)
      const kinds = [...answers.matchAll(/"(chunk|flows)"/g)].map(([, kind]) => kind)
      assert.deepStrictEqual(kinds, ["chunk", ...Array.from({ length: 30 }, () => "flows"), "chunk"])
      assert.strictEqual(yield* sendBytes(poll() + login.repeat(40)), "")
    })
  )

  it.effect("a client that offers an upgrade to HTTP/2 is answered by HTTP/1.1", () =>
    Effect.gen(function* () {
      const answer = yield* sendBytes(
        "GET /matrix/client/api/v1/login HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n" +
          "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
      )
      assert.match(answer, /^HTTP\/1.1 200 /)
      assert.include(answer, "m.login.password")
    })
  )

  it.effect("/health, /openapi.json and /docs are there for the operator", () =>
    Effect.gen(function* () {
      const health = yield* ask("GET", "//health")
      assert.strictEqual(health.status, 200)
      assert.strictEqual(health.body.ok, true)
      const openapi = yield* ask("GET", "//openapi.json")
      assert.property(openapi.body.paths, "/matrix/client/api/v1/rooms/{roomId}/send/{type}/{txnId}")
      for (const [path, endpoint] of [
        ["//docs/admin", "/_greenroom/admin/v1/bans"],
        ["//docs/admin/synapse", "/_synapse/admin/v2/users"]
      ] as const) {
        const page = yield* ask("GET", path)
        assert.strictEqual(page.status, 200)
        assert.include(page.text, endpoint)
        assert.notMatch(page.text, /<(script|link)[^>]+(src|href)="?https?:/)
      }
      const docs = yield* ask("GET", "//docs")
      assert.match(docs.headers.get("content-type") ?? "", /^text\/html/)
      assert.notMatch(docs.text, /<(script|link)[^>]+(src|href)="?https?:/)
    })
  )

  it.effect("the root of the server is a page whose links work", () =>
    Effect.gen(function* () {
      const home = yield* ask("GET", "//")
      assert.strictEqual(home.status, 200)
      assert.match(home.headers.get("content-type") ?? "", /^text\/html/)
      assert.include(home.text, "green.test")
      const links = [...home.text.matchAll(/href="(\/[^"]*)"/g)].map(([, path]) => path)
      assert.includeMembers(links, ["/docs", "/docs/client-server", "/docs/admin", "/health"])
      for (const path of links) assert.strictEqual((yield* ask("GET", `/${path}`)).status, 200, path)
      assert.strictEqual((yield* ask("POST", "//", { json: {} })).status, 405)
    })
  )

  it.effect("browsers get the icon that they request for each page", () =>
    Effect.gen(function* () {
      const icon = yield* ask("GET", "//favicon.ico")
      assert.strictEqual(icon.status, 200)
      assert.strictEqual(icon.headers.get("content-type"), "image/svg+xml")
      assert.match(icon.text, /^<svg xmlns=/)
      const home = yield* ask("GET", "//")
      assert.include(home.headers.get("content-security-policy") ?? "", "img-src 'self'")
    })
  )

  it.effect("the login page loads nothing from elsewhere, and its policy allows nothing else", () =>
    Effect.gen(function* () {
      const page = yield* ask("GET", "/login/fallback")
      assert.strictEqual(page.status, 200)
      assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
      const policy = page.headers.get("content-security-policy") ?? ""
      assert.match(policy, /^default-src 'none'; script-src 'sha256-/)
      assert.notInclude(policy, "unsafe")
      assert.notMatch(page.text, /https?:\/\//)
    })
  )
})
