import { assert, describe, it } from "@effect/vitest"
import { canonicalIdentityUrl, IdentityApi, identityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { OpenApi } from "effect/http-api"

const table = `
GET 
POST /validate/email/requestToken
POST /validate/msisdn/requestToken
POST /validate/{medium}/submitToken
GET /validate/{medium}/submitToken
POST /validate/{medium}/confirm
GET /3pid/getValidated3pid
POST /3pid/bind
POST /3pid/unbind
GET /lookup
POST /lookup
GET /hash_details
POST /store-invite
GET /pubkey/isvalid
GET /pubkey/{keyId}
POST /replicate/v1/push
`

describe("IdentityApi", () => {
  it("the document has every endpoint and no other, each with a summary and its errors", () => {
    const { paths } = OpenApi.fromApi(IdentityApi)
    const lines = table.trim().split("\n")
    const documented = Object.entries(paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)
    )
    assert.sameMembers(
      documented.filter((line) => line.includes(identityPrefix)),
      lines.map((line) => line.replace(" ", ` ${identityPrefix}`))
    )
    for (const line of lines) {
      const [method, path] = line.split(" ") as [string, string]
      const operation = paths[`${identityPrefix}${path}`]?.[method.toLowerCase() as "get"]
      assert.isDefined(operation, line)
      assert.isString(operation!.summary, line)
      assert.property(operation!.responses, "429", line)
    }
  })

  it("the later prefix has the canonical URL of the draft", () => {
    assert.strictEqual(canonicalIdentityUrl("/_matrix/identity/api/v1/lookup?a=b"), `${identityPrefix}/lookup?a=b`)
    assert.strictEqual(canonicalIdentityUrl("/matrix/identity/api/v1/lookup"), `${identityPrefix}/lookup`)
    assert.strictEqual(canonicalIdentityUrl("/_matrix/client/api/v1/login"), "/_matrix/client/api/v1/login")
  })
})
