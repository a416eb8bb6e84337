import { assert, describe, it } from "@effect/vitest"
import { ClientApi, canonicalUrl, clientApi, clientPrefix, laterClientPrefix } from "@greenroom/protocol/api/ClientApi"
import { statusOf } from "@greenroom/protocol/MatrixError"
import { OpenApi } from "effect/http-api"

/** The endpoints of the client API, as the table of the draft lists them. */
const table = `
GET /register
POST /register
POST /unregister
GET /login
POST /login
GET /login/fallback
GET /register/fallback
GET /login/email/confirm
POST /login/email/confirm
GET /login/oauth2/services
GET /login/oauth2/authorize
GET /login/oauth2/callback
POST /logout
POST /logout/all
POST /logout/others
GET /devices
DELETE /devices/{deviceId}
POST /account/password
GET /account/links
POST /account/links
POST /account/links/remove
GET /account/3pid
POST /account/3pid
POST /account/3pid/delete
GET /admin/destinations
GET /admin/users
POST /admin/users
GET /admin/users/{userId}
PUT /admin/users/{userId}/admin
POST /admin/users/{userId}/password
POST /admin/users/{userId}/deactivate
GET /admin/users/{userId}/devices
DELETE /admin/users/{userId}/devices/{deviceId}
GET /admin/registration_tokens
POST /admin/registration_tokens
DELETE /admin/registration_tokens/{tokenId}
GET /events
GET /events/{eventId}
GET /initialSync
GET /pushrules/
GET /rooms/{roomId}/initialSync
GET /publicRooms
POST /createRoom
PUT /createRoom/{txnId}
PUT /rooms/{roomId}/state/{type}
GET /rooms/{roomId}/state/{type}
PUT /rooms/{roomId}/state/{type}/{stateKey}
GET /rooms/{roomId}/state/{type}/{stateKey}
GET /rooms/{roomId}/state
POST /rooms/{roomId}/send/{type}
PUT /rooms/{roomId}/send/{type}/{txnId}
POST /rooms/{roomId}/join
PUT /rooms/{roomId}/join/{txnId}
POST /rooms/{roomId}/invite
PUT /rooms/{roomId}/invite/{txnId}
POST /rooms/{roomId}/leave
PUT /rooms/{roomId}/leave/{txnId}
POST /rooms/{roomId}/ban
PUT /rooms/{roomId}/ban/{txnId}
POST /rooms/{roomId}/kick
PUT /rooms/{roomId}/kick/{txnId}
POST /rooms/{roomId}/unban
POST /rooms/{roomId}/upgrade
PUT /rooms/{roomId}/unban/{txnId}
POST /join/{roomIdOrAlias}
PUT /join/{roomIdOrAlias}
PUT /join/{roomIdOrAlias}/{txnId}
GET /rooms/{roomId}/members
GET /rooms/{roomId}/messages
PUT /rooms/{roomId}/typing/{userId}
POST /rooms/{roomId}/redact/{eventId}
PUT /rooms/{roomId}/redact/{eventId}/{txnId}
GET /directory/room/{alias}
PUT /directory/room/{alias}
DELETE /directory/room/{alias}
GET /presence/{userId}/status
PUT /presence/{userId}/status
GET /presence/list/{userId}
POST /presence/list/{userId}
GET /presence_list/{userId}
POST /presence_list/{userId}
GET /presence/observers/{userId}
GET /contacts
POST /contacts
DELETE /contacts
POST /contacts/import
GET /contacts/export
POST /contacts/lookup
GET /contacts/{contactId}
PUT /contacts/{contactId}
DELETE /contacts/{contactId}
GET /profile/{userId}
GET /profile/{userId}/displayname
PUT /profile/{userId}/displayname
GET /profile/{userId}/avatar_url
PUT /profile/{userId}/avatar_url
GET /profile/{userId}/{field}
PUT /profile/{userId}/{field}
GET /voip/turnServer
GET /socket`

const listed = table
  .trim()
  .split("\n")
  .map((line) => line.split(" ") as [string, string])

const open = [
  "GET /register",
  "POST /register",
  "GET /register/fallback",
  "GET /login",
  "POST /login",
  "GET /login/fallback",
  "GET /login/email/confirm",
  "POST /login/email/confirm",
  "GET /login/oauth2/services",
  "GET /login/oauth2/authorize",
  "GET /login/oauth2/callback",
  "GET /publicRooms"
]

/** Endpoints with an optional access token. */
const halfOpen = [
  "GET /matrix/content/{mediaId}",
  "GET /directory/room/{alias}",
  "GET /profile/{userId}",
  "GET /profile/{userId}/displayname",
  "GET /profile/{userId}/avatar_url",
  "GET /profile/{userId}/{field}"
]

const operationsOf = (spec: OpenApi.OpenAPISpec) =>
  Object.entries(spec.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      line: `${method.toUpperCase()} ${path}`,
      operation: operation as OpenApi.OpenAPISpecOperation
    }))
  )

describe("the OpenAPI document", () => {
  for (const [prefix, api] of [
    [clientPrefix, ClientApi],
    [laterClientPrefix, clientApi(laterClientPrefix)]
  ] as const) {
    it(`the document has every endpoint under ${prefix}, and no other`, () => {
      const documented = operationsOf(OpenApi.fromApi(api as typeof ClientApi)).map(({ line }) => line)
      const expected = [
        ...listed.map(([method, path]) => `${method} ${prefix}${path}`),
        "GET /health",
        "POST /matrix/content",
        "PUT /matrix/content",
        "GET /matrix/content/{mediaId}"
      ]
      assert.deepStrictEqual([...documented].sort(), [...expected].sort())
    })
  }

  const spec = OpenApi.fromApi(ClientApi)
  const operations = operationsOf(spec)

  it("every endpoint documents its purpose and its permitted callers", () => {
    for (const { line, operation } of operations) {
      assert.isAbove(operation.summary?.length ?? 0, 5, line)
      assert.match(operation.description ?? "", /\*\*Who may call it:\*\* .+\.$/, line)
    }
  })

  it("the document declares which endpoints need an access token", () => {
    for (const { line, operation } of operations) {
      const path = line.replace(clientPrefix, "")
      const isOpen = line === "GET /health" || open.includes(path)
      const without = halfOpen.includes(path) ? [{}] : []
      assert.deepStrictEqual(operation.security, isOpen ? [] : [...without, { access_token: [] }, { bearer: [] }], line)
    }
    assert.hasAllKeys(spec.components.securitySchemes, ["access_token", "bearer"])
  })

  it("every error has the same schema, under its status", () => {
    for (const { line, operation } of operations) {
      for (const [status, response] of Object.entries(operation.responses)) {
        if (Number(status) < 400) continue
        const content = response.content?.["application/json"]
        assert.deepStrictEqual(content?.schema, { $ref: "#/components/schemas/Error" }, line)
        for (const errcode of response.description?.split(", ") ?? []) {
          assert.strictEqual(String(statusOf[errcode as keyof typeof statusOf]), status, line)
        }
      }
    }
  })

  it("the document lists the errors of each endpoint, and no others", () => {
    const errorsOf = (line: string) => {
      const { responses } = operations.find(
        (operation) => operation.line === `${line.replace(" ", ` ${clientPrefix}`)}`
      )!.operation
      const failures = Object.entries(responses).filter(([status]) => Number(status) >= 400)
      return failures.flatMap(([, { description }]) => description!.split(", ")).sort()
    }
    assert.deepStrictEqual(errorsOf("GET /login"), ["M_LIMIT_EXCEEDED"])
    assert.deepStrictEqual(errorsOf("PUT /rooms/{roomId}/send/{type}/{txnId}"), [
      "M_BAD_JSON",
      "M_FORBIDDEN",
      "M_LIMIT_EXCEEDED",
      "M_MISSING_TOKEN",
      "M_NOT_FOUND",
      "M_NOT_JSON",
      "M_TOO_LARGE",
      "M_UNKNOWN_TOKEN"
    ])
  })

  it("the document declares which bodies are optional", () => {
    const optional = operations
      .filter(({ operation }) => operation.requestBody !== undefined && !operation.requestBody.required)
      .map(({ operation }) => operation.operationId)
    assert.includeMembers(optional, ["rooms.createRoom", "membership.join", "membership.leave", "login.logout"])
    for (const required of ["rooms.send", "state.set", "membership.invite", "login.login", "rooms.typing"]) {
      assert.notInclude(optional, required)
    }
  })

  it("the document describes the keys of answers", () => {
    const page = spec.components.schemas.MessagePage as { readonly properties: object }
    assert.hasAllKeys(page.properties, ["chunk", "start", "end"])
    const event = spec.components.schemas.Event as { readonly properties: object }
    assert.containsAllKeys(event.properties, ["event_id", "user_id", "sender", "ts", "origin_server_ts", "content"])
  })

  it("the document contains all schemas that it refers to", () => {
    const references = [...JSON.stringify(spec).matchAll(/"#\/components\/schemas\/([^"]+)"/g)]
    assert.isNotEmpty(references)
    for (const [, name] of references) {
      assert.property(spec.components.schemas, name ?? "")
    }
  })
})

describe("the two prefixes", () => {
  it("both prefixes have the same canonical URL", () => {
    assert.strictEqual(canonicalUrl("/_matrix/client/api/v1/events?from=END"), "/matrix/client/api/v1/events?from=END")
    assert.strictEqual(canonicalUrl("/matrix/client/api/v1/events"), "/matrix/client/api/v1/events")
    assert.strictEqual(canonicalUrl("/_matrix/client/api/v10"), "/_matrix/client/api/v10")
    assert.strictEqual(canonicalUrl("/_matrix/client/api/v1"), "/_matrix/client/api/v1")
    assert.strictEqual(canonicalUrl("/"), "/")
    assert.strictEqual(
      canonicalUrl("/_matrix/client/api/v1/a;b/c;d?x=1;2?3;4"),
      "/matrix/client/api/v1/a%3Bb/c%3Bd?x=1;2?3;4"
    )
  })
})
