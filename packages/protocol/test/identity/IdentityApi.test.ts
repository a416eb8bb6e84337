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
  it("has every endpoint, each with a summary and its errors", () => {
    const { paths } = OpenApi.fromApi(IdentityApi)
    for (const line of table.trim().split("\n")) {
      const [method, path] = line.split(" ") as [string, string]
      const operation = paths[`${identityPrefix}${path}`]?.[method.toLowerCase() as "get"]
      assert.isDefined(operation, line)
      assert.isString(operation!.summary, line)
      assert.property(operation!.responses, "429", line)
    }
  })

  it("the later prefix leads to the draft's", () => {
    assert.strictEqual(canonicalIdentityUrl("/_matrix/identity/api/v1/lookup?a=b"), `${identityPrefix}/lookup?a=b`)
    assert.strictEqual(canonicalIdentityUrl("/matrix/identity/api/v1/lookup"), `${identityPrefix}/lookup`)
    assert.strictEqual(canonicalIdentityUrl("/_matrix/client/api/v1/login"), "/_matrix/client/api/v1/login")
  })
})
