import { assert, describe, it } from "@effect/vitest"
import { document, names } from "./MatrixEndpoints.ts"

describe.each(names)("docs/%s", (name) => {
  it("lists the endpoints that are served (npm run docs writes it)", () => {
    const { expected, found } = document(name)
    assert.strictEqual(found, expected)
  })
})
