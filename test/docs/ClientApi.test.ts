/** `docs/client-api.md` describes every endpoint of the client API of 2014. */
import { readFileSync } from "node:fs"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { socketMethods } from "@greenroom/protocol/SocketMethod"
import { assert, describe, it } from "vitest"

const words = new Set(readFileSync(new URL("../../docs/client-api.md", import.meta.url), "utf8").split(/[^\w]+/))

/** The words of a path without its parameters. */
const wordsOf = (path: string): ReadonlyArray<string> =>
  path.split("/").flatMap((segment) => (segment.startsWith(":") ? [] : segment.split(/[^\w]+/)))

describe("docs/client-api.md", () => {
  it("docs/client-api.md names every endpoint", () => {
    const paths = Object.values(ClientApi.groups).flatMap((group) =>
      Object.values(group.endpoints).map(({ path }) => path)
    )
    assert.isAbove(paths.length, 70)
    assert.deepStrictEqual(
      paths.filter((path) => !wordsOf(path).every((word) => words.has(word))),
      []
    )
  })

  it("docs/client-api.md names every method of the WebSocket", () => {
    assert.deepStrictEqual(
      Object.keys(socketMethods).filter((method) => !words.has(method)),
      []
    )
  })
})
