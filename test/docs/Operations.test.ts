import { readFileSync } from "node:fs"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { assert, describe, it } from "vitest"

/**
 * The operations of the specification's `data/api/client-server`, one a line. `test/docs/operations.ts` writes them from a
 * copy of `matrix-org/matrix-spec`.
 */
const operations = readFileSync(new URL("operations.txt", import.meta.url), "utf8")
  .trim()
  .split("\n")

/** Our parameters have other names. */
const shapeOf = (operation: string): string => operation.replaceAll(/\{[^}]+\}/g, "{}").replace(/\/$/, "")

const served = new Set(
  Object.values(ClientServerApi.groups).flatMap((group) =>
    Object.values(group.endpoints).map(({ method, path }) => {
      const withParameters = path.replaceAll(/:[A-Za-z]+\??/g, "{}").replace(/\*$/, "{}")
      return shapeOf(`${method} ${withParameters}`)
    })
  )
)

/** The operations that this server does not serve yet, in the order of `operations.txt`. */
const missing: ReadonlyArray<string> = []

describe("operations of the specification", () => {
  it("all operations of the specification are served, except the known missing ones", () => {
    assert.isAbove(operations.length, 150)
    const notServed = operations.filter((operation) => !served.has(shapeOf(operation)))
    assert.deepStrictEqual(notServed, missing)
  })
})
