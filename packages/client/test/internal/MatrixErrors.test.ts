import { assert, describe, it } from "@effect/vitest"
import { LimitExceeded, NotFound, statusOf } from "@greenroom/protocol/MatrixError"
import { fromErrorBody } from "../../src/internal/MatrixErrors.ts"

describe("MatrixErrors", () => {
  it("every errcode of the protocol is decoded to the error with that tag", () => {
    for (const errcode of Object.keys(statusOf)) {
      const more = errcode === "M_BAD_STATUS" ? { status: 500, body: "" } : {}
      const error = fromErrorBody({ errcode, error: "What is wrong", ...more })
      assert.deepStrictEqual([error._tag as string, error.error], [errcode, "What is wrong"])
    }
    assert.instanceOf(fromErrorBody({ errcode: "M_NOT_FOUND", error: "" }), NotFound)
  })

  it("the retry delay of the server is kept", () => {
    const error = fromErrorBody({ errcode: "M_LIMIT_EXCEEDED", error: "Later", retry_after_ms: 250 })
    assert.isTrue(error instanceof LimitExceeded && error.retry_after_ms === 250)
  })

  it("an unknown code is kept", () => {
    const error = fromErrorBody({ errcode: "ORG_EXAMPLE_NEW", error: "Something new" })
    assert.deepStrictEqual([error._tag as string, error.error], ["M_UNKNOWN", "ORG_EXAMPLE_NEW: Something new"])
    assert.strictEqual(fromErrorBody({ errcode: "toString", error: "x" })._tag, "M_UNKNOWN")
  })
})
