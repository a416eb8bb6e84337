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

/** Parameters have other names here. */
const shapeOf = (operation: string): string => operation.replaceAll(/\{[^}]+\}/g, "{}").replace(/\/$/, "")

const served = new Set(
  Object.values(ClientServerApi.groups).flatMap((group) =>
    Object.values(group.endpoints).map(({ method, path }) => {
      const withParameters = path.replaceAll(/:[A-Za-z]+\??/g, "{}").replace(/\*$/, "{}")
      return shapeOf(`${method} ${withParameters}`)
    })
  )
)

/** What this server does not serve yet. Whoever serves one of these takes it from the list. */
const missing: ReadonlyArray<string> = [
  "DELETE /_matrix/client/v3/room_keys/keys",
  "DELETE /_matrix/client/v3/room_keys/keys/{roomId}",
  "DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
  "DELETE /_matrix/client/v3/room_keys/version/{version}",
  "GET /.well-known/matrix/policy_server",
  "GET /_matrix/client/v1/media/preview_url",
  "GET /_matrix/client/v3/events",
  "GET /_matrix/client/v3/events/{eventId}",
  "GET /_matrix/client/v3/initialSync",
  "GET /_matrix/client/v3/keys/changes",
  "GET /_matrix/client/v3/room_keys/keys",
  "GET /_matrix/client/v3/room_keys/keys/{roomId}",
  "GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
  "GET /_matrix/client/v3/room_keys/version",
  "GET /_matrix/client/v3/room_keys/version/{version}",
  "GET /_matrix/client/v3/rooms/{roomId}/initialSync",
  "GET /_matrix/media/v3/preview_url",
  "POST /_matrix/client/v3/keys/claim",
  "POST /_matrix/client/v3/keys/device_signing/upload",
  "POST /_matrix/client/v3/keys/query",
  "POST /_matrix/client/v3/keys/signatures/upload",
  "POST /_matrix/client/v3/keys/upload",
  "POST /_matrix/client/v3/room_keys/version",
  "PUT /_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}",
  "PUT /_matrix/client/v3/room_keys/keys",
  "PUT /_matrix/client/v3/room_keys/keys/{roomId}",
  "PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
  "PUT /_matrix/client/v3/room_keys/version/{version}",
  "PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}"
]

describe("operations of the specification", () => {
  it("are all served, but those that are known to be missing", () => {
    const notServed = operations.filter((operation) => !served.has(shapeOf(operation)))
    assert.deepStrictEqual(
      notServed.filter((operation) => !missing.includes(operation)),
      []
    )
  })
})
