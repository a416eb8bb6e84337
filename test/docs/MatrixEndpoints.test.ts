import { assert, describe, it } from "@effect/vitest"
import { document, names } from "./MatrixEndpoints.ts"

describe.each(names)("docs/%s", (name) => {
  it("the page lists the served endpoints (npm run docs writes it)", () => {
    const { expected, found } = document(name)
    assert.strictEqual(found, expected)
  })
})
