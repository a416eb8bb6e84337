import { assert, describe, it } from "@effect/vitest"
import { maxLimit, maxTimeout, type PaginationQuery, parsePagination } from "@greenroom/protocol/Pagination"
import { Result } from "effect"
import fc from "fast-check"

const refuses = (query: PaginationQuery, key: string) => {
  const result = parsePagination(query)
  if (!Result.isFailure(result)) return assert.fail(`accepted ${JSON.stringify(query)}`)
  assert.strictEqual(result.failure._tag, "M_BAD_PAGINATION")
  assert.match(result.failure.error, new RegExp(`^${key}: expected `))
}

const reads = (query: PaginationQuery, expected: object) =>
  assert.deepStrictEqual(Result.getOrThrow(parsePagination(query)), expected as never)

describe("pagination", () => {
  it("pagination has the parameters of the client, and no others", () => {
    reads({}, {})
    reads(
      { from: "START", to: "END", limit: "5", dir: "b", timeout: "0" },
      {
        from: "START",
        to: "END",
        limit: 5,
        dir: "b",
        timeout: 0
      }
    )
    reads({ limit: 0, timeout: undefined }, { limit: 0 })
  })

  it("the page size stays within the limits of the server", () => {
    reads({ limit: "999999", timeout: "999999999" }, { limit: maxLimit, timeout: maxTimeout })
  })

  it("a limit that is negative or not an integer is M_BAD_PAGINATION, with the parameter in the error", () => {
    for (const key of ["limit", "timeout"] as const) {
      for (const value of ["-1", "1.5", "ten", "", " 1", "1e3", "0x10", "NaN", "Infinity", "1".repeat(16), -1, 0.5]) {
        refuses({ [key]: value }, key)
      }
    }
  })

  it("a direction other than f and b is M_BAD_PAGINATION", () => {
    for (const dir of ["F", "forwards", "", "bb"]) refuses({ dir }, "dir")
  })

  it("a malformed token is M_BAD_PAGINATION", () => {
    for (const token of ["", "a b", "ü", "a\u0000", "t".repeat(1025)]) {
      refuses({ from: token }, "from")
      refuses({ to: token }, "to")
    }
  })

  it("any parameters are accepted or refused without an exception", () => {
    const value = fc.option(fc.oneof(fc.string(), fc.integer().map(String)), { nil: undefined })
    fc.assert(
      fc.property(fc.record({ from: value, to: value, limit: value, dir: value, timeout: value }), (query) => {
        const result = parsePagination(query)
        if (Result.isSuccess(result)) {
          assert.isTrue(result.success.limit === undefined || Number.isSafeInteger(result.success.limit))
        }
      })
    )
  })
})
