import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { RemoteInvalid, RemoteRefused } from "../../src/federation/RemoteError.ts"
import { refusalsUntilFinal, waitAfterRefusal } from "../../src/federation/TransactionRefusal.ts"

const destination = "blue.test" as ServerName
const refused = (status: number, errcode = "M_UNKNOWN") =>
  refusalsUntilFinal(new RemoteRefused({ destination, status, errcode, error: "" }))

const hour = 3_600_000

describe("TransactionRefusal", () => {
  it("a refusal of a transaction that the server has understood is final", () => {
    for (const [status, errcode] of [
      [400, "M_BAD_JSON"],
      [403, "M_FORBIDDEN"],
      [413, "M_TOO_LARGE"]
    ] as const) {
      assert.strictEqual(refused(status, errcode), 1)
    }
  })

  it("an error that may pass is waited for, but not for ever", () => {
    for (const status of [401, 404, 405, 500, 501, 302]) {
      assert.isAbove(refused(status), 1, String(status))
      assert.isBelow(refused(status), 20, String(status))
    }
    assert.isAbove(refusalsUntilFinal(new RemoteInvalid({ destination, reason: "not JSON" })), 1)
  })

  it("a server that asks for time gets it", () => {
    assert.strictEqual(refused(429), Number.POSITIVE_INFINITY)
    assert.strictEqual(refused(400, "M_LIMIT_EXCEEDED"), Number.POSITIVE_INFINITY)
    assert.strictEqual(waitAfterRefusal(1, false, 0, 20_000), 20_000)
    assert.strictEqual(waitAfterRefusal(1, false, 0, 100 * hour), hour)
  })

  it("one bad item costs no wait, a server that refuses everything is asked less and less often", () => {
    assert.strictEqual(waitAfterRefusal(1, true, 0), 0)
    assert.strictEqual(waitAfterRefusal(2, true, 0), 0)
    assert.deepStrictEqual(
      [3, 4, 5, 6].map((refusals) => waitAfterRefusal(refusals, true, 0)),
      [1_000, 2_000, 4_000, 8_000]
    )
    assert.strictEqual(waitAfterRefusal(1, false, 0), 1_000)
    assert.strictEqual(waitAfterRefusal(1_000, true, 0), hour)
    assert.strictEqual(waitAfterRefusal(1_000, true, 1), 0.7 * hour)
  })
})
