import { assert, describe, it } from "@effect/vitest"
import { document } from "./MatrixEndpoints.ts"

describe("docs/matrix.md", () => {
  it("lists the endpoints that are served (npm run docs writes it)", () => {
    const { expected, found } = document()
    assert.strictEqual(found, expected)
  })
})
