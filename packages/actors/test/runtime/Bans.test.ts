/** The values that administrators can ban. */
import { assert, describe, it } from "@effect/vitest"
import { banProblem } from "@greenroom/actors/runtime/Bans"

describe("Values of bans", () => {
  it("a user of another server can be banned by every ID that rooms take, also one without a localpart or with control characters", () => {
    for (const userId of ["@mallory:evil.test", "@:evil.test", "@a\u0007b:evil.test", "@Mällory:evil.test:8448"]) {
      assert.isUndefined(banProblem("user", userId), userId)
    }
    for (const text of ["mallory", "@mallory", "@mallory:", "@a\u0000b:evil.test", `@${"a".repeat(250)}:evil.test`]) {
      assert.isDefined(banProblem("user", text), text)
    }
  })

  it("servers are banned by their names, and content by its SHA-256", () => {
    assert.isUndefined(banProblem("server", "evil.test:8448"))
    assert.isDefined(banProblem("server", "https://evil.test"))
    assert.isUndefined(banProblem("sha256", `${"0aF".repeat(21)}0`))
    assert.isDefined(banProblem("sha256", "mxc://evil.test/abc"))
  })
})
