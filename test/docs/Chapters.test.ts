/**
 * `docs/chapters.md`: each chapter of the draft has a row with a test, the listed endpoints are declared, and each requirement lists tests
 * by their titles.
 */
import { readFileSync } from "node:fs"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { ClientApi, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { FederationApi, federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import { IdentityApi, identityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { assert, describe, it } from "vitest"

/** The chapters of the draft and their sections. */
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

const page = new URL("../../docs/chapters.md", import.meta.url)
const sections = readFileSync(page, "utf8").split("\n## ")

/** The rows of the table in a section, without its head. */
const rowsOf = (section: string) =>
  section
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(1)
    .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | ?\|$/g, "").trim()))

const rows = rowsOf(sections[0]!)
const requirements = rowsOf(sections.find((section) => section.startsWith("Requirements\n"))!)

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
  it("docs/chapters.md has a row for each chapter of the draft, in its order", () => {
    assert.deepStrictEqual(
      rows.map(([chapter]) => chapter),
      chapters
    )
  })

  it("the endpoints in docs/chapters.md are declared", () => {
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

  it("the tests of each requirement in docs/chapters.md have the listed titles", () => {
    assert.isAbove(requirements.length, 35)
    for (const [requirement, , tests = ""] of requirements) {
      const shown = [...tests.matchAll(/\]\(([^)]+\.test\.ts)\): ((?:"[^"]+"(?:, )?)+)/g)]
      assert.isAbove(shown.length, 0, requirement)
      for (const [, file = "", titles = ""] of shown) {
        const source = readFileSync(new URL(file, page), "utf8")
        for (const [title] of titles.matchAll(/"[^"]+"/g)) assert.include(source, title, requirement)
      }
    }
  })

  it("docs/chapters.md lists a test for each chapter", () => {
    for (const [chapter, , , tests = ""] of rows) assert.match(tests, /\]\([^)]+\.test\.ts\)/, chapter)
  })
})
