/** Requests to the API, whose handlers answer with the decoded request. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import {
  Authentication,
  accessToken,
  CurrentSession,
  CurrentViewer,
  OptionalAuthentication
} from "@greenroom/protocol/api/Authentication"
import { ClientApi, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { WireErrors } from "@greenroom/protocol/api/WireError"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, LimitExceeded, UnknownToken } from "@greenroom/protocol/MatrixError"
import { Effect, Layer, Redacted } from "effect"
import { FetchHttpClient, HttpClientRequest, HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { HttpApiBuilder, HttpApiClient, type HttpApiEndpoint, HttpApiMiddleware } from "effect/http-api"

interface HandledRequest {
  readonly endpoint: HttpApiEndpoint.Top
  readonly params?: { readonly roomId?: string }
  readonly query?: unknown
  readonly payload?: unknown
}

/** Fails for two rooms, to test errors, and otherwise answers with the request. */
const answer = (request: HandledRequest) => {
  if (request.params?.roomId === "!forbidden:example.org") return new Forbidden({ error: "Not in this room" })
  if (request.params?.roomId === "!busy:example.org") return new LimitExceeded({ error: "Too fast", retry_after_ms: 5 })
  return Effect.succeed(
    HttpServerResponse.jsonUnsafe({
      endpoint: request.endpoint.identifier,
      params: request.params,
      query: request.query,
      payload: request.payload
    })
  )
}

const echo = (identifier: keyof (typeof ClientApi)["groups"]) =>
  HttpApiBuilder.group(ClientApi, identifier as "voip", (handlers) => {
    let all: unknown = handlers
    for (const endpoint of Object.keys(ClientApi.groups[identifier].endpoints)) {
      all = (all as { handle: (endpoint: string, answer: unknown) => unknown }).handle(endpoint, answer)
    }
    return all as never
  })

const AuthenticationLive = Layer.succeed(Authentication, (request) =>
  Effect.gen(function* () {
    const token = Redacted.value(yield* accessToken)
    if (token !== "alices") return yield* new UnknownToken({ error: "Unknown access token" })
    const session = { userId: "@alice:example.org" as UserId, tokenId: 1, deviceId: "laptop" }
    return yield* Effect.provideService(request, CurrentSession, session)
  })
)

const OptionalAuthenticationLive = Layer.succeed(OptionalAuthentication, (request) =>
  Effect.provideService(request, CurrentViewer, undefined)
)

const Groups = Object.keys(ClientApi.groups).map((identifier) => echo(identifier as "voip"))
const Routes = HttpApiBuilder.layer(ClientApi).pipe(
  Layer.provide(Groups as unknown as [Layer.Layer<never>]),
  Layer.provide([AuthenticationLive, OptionalAuthenticationLive, WireErrors.layer]),
  Layer.provide(HttpServer.layerServices)
) as Layer.Layer<never, never, HttpRouter.HttpRouter>

let handle: (request: Request) => Promise<Response>
beforeAll(() => {
  const web = HttpRouter.toWebHandler(Routes, { disableLogger: true, routerConfig: { maxParamLength: 1024 } })
  handle = (request) => web.handler(request)
  return web.dispose
})

const call = async (method: string, path: string, body?: string, headers: Record<string, string> = {}) => {
  const authorization = { authorization: "Bearer alices" }
  const response = await handle(
    new Request(`http://localhost${clientPrefix}${path}`, {
      method,
      headers: { ...authorization, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body })
    })
  )
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const refuses = async (
  request: readonly [method: string, path: string, body?: string],
  status: number,
  errcode: string,
  error: RegExp
) => {
  const answered = await call(...request)
  assert.deepStrictEqual({ status: answered.status, errcode: answered.body.errcode }, { status, errcode })
  assert.match(String(answered.body.error), error)
}

const room = encodeURIComponent("!room:example.org")

describe("bodies", () => {
  it("bodies reach the handler with keys that no schema declares", async () => {
    const content = { msgtype: "m.text", body: "hi", extra: { kept: [1, null, true] } }
    const sent = await call("POST", `/rooms/${room}/send/m.room.message`, JSON.stringify(content))
    assert.deepStrictEqual(sent.body.payload, content)
    const stage = { type: "org.example.otp", user: "alice", otp: "123" }
    assert.deepStrictEqual((await call("POST", "/login", JSON.stringify(stage))).body.payload, stage)
  })

  it("bodies without required keys may be absent", async () => {
    for (const [method, path] of [
      ["POST", `/rooms/${room}/join`],
      ["POST", `/rooms/${room}/leave`],
      ["PUT", "/join/%23pond:example.org"],
      ["POST", "/createRoom"],
      ["POST", "/logout"]
    ] as const) {
      assert.strictEqual((await call(method, path)).status, 200, path)
      assert.strictEqual((await call(method, path, "{}")).status, 200, path)
    }
  })

  it("bodies that are not JSON are M_NOT_JSON", async () => {
    await refuses(["POST", `/rooms/${room}/send/m.room.message`, "{body:"], 400, "M_NOT_JSON", /not JSON/)
    await refuses(["POST", `/rooms/${room}/send/m.room.message`], 400, "M_NOT_JSON", /not JSON/)
    await refuses(["POST", "/login", "password=1"], 400, "M_NOT_JSON", /not JSON/)
    await refuses(["POST", `/rooms/${room}/join`, "{"], 400, "M_NOT_JSON", /not JSON/)
  })

  it("bodies that are not JSON objects are M_BAD_JSON", async () => {
    for (const body of ["[]", "null", '"text"', "1"]) {
      await refuses(["POST", `/rooms/${room}/send/m.room.message`, body], 400, "M_BAD_JSON", /JSON object/)
      await refuses(["POST", "/login", body], 400, "M_BAD_JSON", /JSON object/)
    }
    await refuses(["POST", `/rooms/${room}/leave`, "[]"], 400, "M_BAD_JSON", /JSON object/)
    await refuses(["POST", "/createRoom", "[]"], 400, "M_BAD_JSON", /JSON object/)
  })

  it("bodies with missing or wrong keys are M_BAD_JSON, with the key in the error", async () => {
    const bad = (path: string, body: string, error: RegExp, method = "POST") =>
      refuses([method, path, body], 400, "M_BAD_JSON", error)
    await bad(`/rooms/${room}/invite`, "{}", /^user_id: missing key/)
    await bad(`/rooms/${room}/invite`, '{"user_id": "bob"}', /^user_id: expected a user ID/)
    await bad(`/rooms/${room}/ban`, '{"user_id": 7}', /^user_id: expected a string/)
    await bad("/createRoom", '{"visibility": "secret"}', /^visibility: expected "public" \| "private"/)
    await bad("/createRoom", '{"invite": ["@bob:example.org", "eve"]}', /^invite\.1: expected a user ID/)
    await bad("/createRoom", '{"name": 3}', /^name: expected a string/)
    await bad("/login", '{"type": "m.login.password", "password": 1}', /^password: expected a string/)
    await bad(`/rooms/${room}/typing/@alice:example.org`, "{}", /^typing: missing key/, "PUT")
    await bad(`/rooms/${room}/typing/@alice:example.org`, '{"typing": "yes"}', /^typing: expected true or false/, "PUT")
    await bad(`/rooms/${room}/typing/@alice:example.org`, '{"typing": true, "timeout": "5"}', /^timeout: /, "PUT")
    await bad("/directory/room/%23pond:example.org", '{"room_id": "#x:y"}', /^room_id: expected a room ID/, "PUT")
    await bad("/presence/@alice:example.org/status", "{}", /^state: missing key/, "PUT")
    await bad("/presence/@alice:example.org/status", '{"state": "asleep"}', /^state: expected/, "PUT")
    await bad("/profile/@alice:example.org/displayname", '{"displayname": 1}', /^displayname: /, "PUT")
  })

  it("deeply nested bodies are refused, or their nested part is ignored", async () => {
    const deep = `${'{"user":'.repeat(30_000)}1${"}".repeat(30_000)}`
    const nested = `{"user_id": "@bob:example.org", "typing": true, "state": "online", "deep": ${deep}}`
    const operations = Object.values(ClientApi.groups).flatMap((group) =>
      Object.values(group.endpoints as Record<string, HttpApiEndpoint.Top>)
    )
    for (const endpoint of operations.filter(({ payload }) => payload.size > 0)) {
      const path = endpoint.path
        .slice(clientPrefix.length)
        .replace(":roomIdOrAlias", room)
        .replace(":roomId", room)
        .replace(":userId", "@alice%3Aexample.org")
        .replace(":eventId", "$1%3Aexample.org")
        .replace(":alias", "%23pond%3Aexample.org")
        .replace(/:[a-zA-Z]+/g, "x")
      const answered = await call(endpoint.method, path, nested)
      assert.include([200, 400], answered.status, path)
      assert.notInclude(JSON.stringify(answered.body.payload ?? ""), "deep")
      if (answered.status === 400) assert.strictEqual(answered.body.errcode, "M_BAD_JSON", path)
    }
  })

  it("errors do not contain the values of bodies", async () => {
    const refused = await call("POST", "/login", JSON.stringify({ password: ["hunter2"], user: 1 }))
    assert.notInclude(JSON.stringify(refused.body), "hunter2")
  })
})

describe("paths", () => {
  it("paths may contain any percent-encoded Unicode", async () => {
    const alias = "#ünïcödé/🐟?&=%:example.org"
    const found = await call("GET", `/directory/room/${encodeURIComponent(alias)}`)
    assert.deepStrictEqual(found.body.params, { alias })
    const set = await call("PUT", `/rooms/${room}/state/org.example.ü/${encodeURIComponent("a/b#ç")}`, "{}")
    assert.deepStrictEqual(set.body.params, { roomId: "!room:example.org", type: "org.example.ü", stateKey: "a/b#ç" })
  })

  it("paths may contain identifiers of up to 255 bytes", async () => {
    const fits = `!${"ü".repeat((255 - 13) / 2)}:example.org`
    assert.strictEqual((await call("GET", `/rooms/${encodeURIComponent(fits)}/state`)).status, 200)
    const long = `!${"a".repeat(255)}:example.org`
    await refuses(["GET", `/rooms/${long}/state`], 400, "M_UNKNOWN", /^roomId: expected a room ID/)
  })

  it("the error of a wrong identifier in a path has the expected kind", async () => {
    await refuses(["GET", "/rooms/%23pond:example.org/state"], 400, "M_UNKNOWN", /^roomId: expected a room ID/)
    await refuses(["GET", "/profile/alice"], 400, "M_UNKNOWN", /^userId: expected a user ID/)
    await refuses(["POST", "/join/pond", "{}"], 400, "M_UNKNOWN", /^roomIdOrAlias: expected a room ID or room alias/)
    await refuses(["GET", "/events/1"], 400, "M_UNKNOWN", /^eventId: expected an event ID/)
  })

  it("a path without a state key is that of the empty state key", async () => {
    const without = await call("GET", `/rooms/${room}/state/m.room.topic`)
    const withSlash = await call("GET", `/rooms/${room}/state/m.room.topic/`)
    assert.deepStrictEqual(without.body, withSlash.body)
  })
})

describe("queries", () => {
  it("query parameters reach the handler as text", async () => {
    const polled = await call("GET", "/events?from=END&timeout=0&limit=5&unknown=1")
    assert.deepStrictEqual(polled.body.query, { from: "END", timeout: "0", limit: "5" })
  })

  it("repeated query parameters are M_BAD_PAGINATION", async () => {
    await refuses(["GET", "/events?limit=1&limit=2"], 400, "M_BAD_PAGINATION", /^limit: /)
  })
})

describe("access tokens", () => {
  const ask = async (query: string, headers: Record<string, string>) => {
    const response = await handle(new Request(`http://localhost${clientPrefix}/initialSync${query}`, { headers }))
    return { status: response.status, body: (await response.json()) as { readonly errcode?: string } }
  }

  it("access tokens are sent as a query parameter or a header", async () => {
    assert.strictEqual((await ask("?access_token=alices", {})).status, 200)
    assert.strictEqual((await ask("", { authorization: "bearer alices" })).status, 200)
  })

  it("access tokens are required and must be known", async () => {
    const missing = await ask("", {})
    assert.deepStrictEqual([missing.status, missing.body.errcode], [401, "M_MISSING_TOKEN"])
    const empty = await ask("?access_token=", { authorization: "Basic abc" })
    assert.deepStrictEqual([empty.status, empty.body.errcode], [401, "M_MISSING_TOKEN"])
    const unknown = await ask("?access_token=mallorys", {})
    assert.deepStrictEqual([unknown.status, unknown.body.errcode], [401, "M_UNKNOWN_TOKEN"])
  })
})

describe("errors", () => {
  it("errors are sent as errcode and error, with their status", async () => {
    const forbidden = await call("GET", "/rooms/!forbidden:example.org/state")
    assert.deepStrictEqual(forbidden, { status: 403, body: { errcode: "M_FORBIDDEN", error: "Not in this room" } })
    const busy = await call("GET", "/rooms/!busy:example.org/state")
    assert.deepStrictEqual(busy, {
      status: 429,
      body: { errcode: "M_LIMIT_EXCEEDED", error: "Too fast", retry_after_ms: 5 }
    })
  })
})

describe("a typed client", () => {
  const AuthenticationClient = Layer.merge(
    HttpApiMiddleware.layerClient(Authentication, ({ next, request }) =>
      next(HttpClientRequest.bearerToken(request, "alices"))
    ),
    HttpApiMiddleware.layerClient(OptionalAuthentication, ({ next, request }) => next(request))
  )
  const fetchHere = ((input: string | URL | Request, init?: RequestInit) =>
    handle(new Request(input, init))) as typeof fetch
  const client = HttpApiClient.make(ClientApi, { baseUrl: "http://localhost" }).pipe(
    Effect.provide(AuthenticationClient),
    Effect.provide(FetchHttpClient.layer),
    Effect.provideService(FetchHttpClient.Fetch, fetchHere)
  )

  it.effect("a typed client calls the endpoints of the definition", () =>
    Effect.gen(function* () {
      const { rooms } = yield* client
      const params = { roomId: "!ünï:example.org" as RoomId, type: "m.room.message", txnId: "1/2" }
      const sent: unknown = yield* rooms.sendWithTransaction({ params, payload: { msgtype: "m.text", body: "hi" } })
      assert.deepInclude(sent as object, { params, payload: { msgtype: "m.text", body: "hi" } })
    })
  )

  it.effect("a typed client gets typed errors", () =>
    Effect.gen(function* () {
      const { state } = yield* client
      const refused = yield* Effect.flip(state.getAll({ params: { roomId: "!forbidden:example.org" as RoomId } }))
      assert.instanceOf(refused, Forbidden)
      const busy = yield* state
        .getAll({ params: { roomId: "!busy:example.org" as RoomId } })
        .pipe(Effect.catchTag("M_LIMIT_EXCEEDED", (error) => Effect.succeed(error.retry_after_ms)))
      assert.strictEqual(busy, 5)
    })
  )
})
