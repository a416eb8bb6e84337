/**
 * `docs/chapters.md`: each chapter of the draft has a row, whose endpoints are declared, and which names a test.
 */
import { readFileSync } from "node:fs"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { ClientApi, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { FederationApi, federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import { IdentityApi, identityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { assert, describe, it } from "vitest"

/** The chapters of the draft and their sections, in its words. */
const chapters = [
  "Introduction",
  "Architecture",
  "Architecture: Room structure",
  "Architecture: Identity",
  "Architecture: API standards",
  "Architecture: Receiving live updates",
  "Rooms",
  "Rooms: Permissions, configuration, power levels (TODO)",
  "Messages: State messages",
  "Messages: Non-state messages",
  "Messages: m.room.message msgtypes",
  "Presence",
  "Presence: Idle time",
  "Presence: Transmission",
  "Presence: Presence list",
  "Presence: Presence and permissions",
  "Typing notifications (TODO)",
  "Voice over IP (TODO)",
  "Profiles",
  "Registration and login",
  "Registration and login: Password-based",
  "Registration and login: OAuth2-based",
  "Registration and login: Email-based (code)",
  "Registration and login: Email-based (url)",
  "Registration and login: N-factor authentication",
  "Registration and login: Fallback",
  "Identity (TODO)",
  "Federation: Queries, EDUs and PDUs",
  "Federation: Transactions",
  "Federation: PDUs and EDUs",
  "Federation: Backfilling",
  "Federation: SRV records",
  "Security: rate limiting",
  "Security: crypto (server to server)",
  "Security: E2E",
  "Security: Lawful intercept and key escrow (TODO)",
  "Policy servers (TODO)",
  "Content repository",
  "Address book repository",
  "Glossary"
]

const rows = readFileSync(new URL("../../docs/chapters.md", import.meta.url), "utf8")
  .split("\n## ")[0]!
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| chapter "))
  .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | ?\|$/g, "").trim()))

const shapeOf = (path: string): string => path.replaceAll(/\{[^}]+\}|:[A-Za-z]+/g, "{}")

/** All endpoints, as `GET /path/{}`. */
const declared = new Set(
  [ClientApi, ClientServerApi, FederationApi, ServerServerApi, IdentityApi, GreenroomAdminApi].flatMap((api) =>
    Object.values(api.groups as Record<string, { readonly endpoints: object }>).flatMap(({ endpoints }) =>
      (Object.values(endpoints) as Array<{ readonly method: string; readonly path: string }>).map(
        ({ method, path }) => `${method} ${shapeOf(path)}`
      )
    )
  )
)

const prefixes = ["", clientPrefix, federationPrefix, identityPrefix]

describe("docs/chapters.md", () => {
  it("has a row for each chapter of the draft, in its order", () => {
    assert.deepStrictEqual(
      rows.map(([chapter]) => chapter),
      chapters
    )
  })

  it("names endpoints that are declared", () => {
    const endpoints = rows.flatMap(([, cell = ""]) => [...cell.matchAll(/`([A-Z]+) ([^`]+)`/g)])
    assert.isAbove(endpoints.length, 60)
    const missing = endpoints.filter(
      ([, method, path = ""]) => !prefixes.some((prefix) => declared.has(`${method} ${prefix}${shapeOf(path)}`))
    )
    assert.deepStrictEqual(
      missing.map(([text]) => text),
      []
    )
  })

  it("names a test for each chapter", () => {
    for (const [chapter, , , tests = ""] of rows) assert.match(tests, /\]\([^)]+\.test\.ts\)/, chapter)
  })
})
