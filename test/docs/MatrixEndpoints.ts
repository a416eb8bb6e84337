/**
 * The table of endpoints in `docs/matrix.md`, made from the definition of today's client API. `npm run docs`
 * writes it; a test says when that was forgotten.
 */
import { readFileSync } from "node:fs"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Context } from "effect"
import { OpenApi } from "effect/http-api"

const file = new URL("../../docs/matrix.md", import.meta.url)
const begin = "<!-- endpoints: begin -->"
const end = "<!-- endpoints: end -->"

const cell = (text: string | undefined): string => (text ?? "").replaceAll("|", "\\|")

const whoOf = (description: string | undefined): string =>
  /\*\*Who may call it:\*\* (.*)\.$/s.exec(description ?? "")?.[1] ?? ""

/** The endpoints, a table for each group. */
const tables = (): string =>
  Object.values(ClientServerApi.groups)
    .map((group) => {
      const title = Context.getOrUndefined(group.annotations, OpenApi.Title) ?? group.identifier
      const rows = Object.values(group.endpoints).map((endpoint) => {
        const summary = Context.getOrUndefined(endpoint.annotations, OpenApi.Summary)
        const description = Context.getOrUndefined(endpoint.annotations, OpenApi.Description)
        const path = endpoint.path.replaceAll(/:([A-Za-z]+)/g, "{$1}")
        return `| \`${endpoint.method} ${path}\` | ${cell(summary)} | ${cell(whoOf(description))} |`
      })
      return [`### ${title}`, "", "| endpoint | | who may call it |", "|---|---|---|", ...rows].join("\n")
    })
    .join("\n\n")

/** Returns the document with the table as it should be, and as it is. */
export const document = (): { readonly file: URL; readonly found: string; readonly expected: string } => {
  const found = readFileSync(file, "utf8")
  const [before, rest] = found.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined) throw new Error("docs/matrix.md lacks the marks of the table")
  return { file, found, expected: `${before}${begin}\n\n${tables()}\n\n${end}${after}` }
}
