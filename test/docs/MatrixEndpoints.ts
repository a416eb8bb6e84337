/** The tables of endpoints in `docs/matrix.md` and `docs/admin.md`, from the definitions of the APIs. `npm run docs` writes them. */
import { readFileSync } from "node:fs"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Context } from "effect"
import { OpenApi } from "effect/http-api"

/** The documents, each with the APIs whose endpoints it lists. */
const documents = {
  "matrix.md": [ClientServerApi],
  "admin.md": [GreenroomAdminApi, SynapseAdminApi]
} as const

export type Name = keyof typeof documents

export const names = Object.keys(documents) as ReadonlyArray<Name>

const begin = "<!-- endpoints: begin -->"
const end = "<!-- endpoints: end -->"

const cell = (text: string | undefined): string => (text ?? "").replaceAll("|", "\\|")

const whoOf = (description: string | undefined): string =>
  /\*\*Who may call it:\*\* (.*)\.$/s.exec(description ?? "")?.[1] ?? ""

/** The parts of a group that the tables need. */
type Group = {
  readonly identifier: string
  readonly annotations: Context.Context<never>
  readonly endpoints: {
    readonly [name: string]: {
      readonly method: string
      readonly path: string
      readonly annotations: Context.Context<never>
    }
  }
}

/** The endpoints, a table for each group. */
const tables = (name: Name): string =>
  documents[name]
    .flatMap((api) => Object.values(api.groups) as unknown as ReadonlyArray<Group>)
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

/** The document with the expected and the present tables. */
export const document = (name: Name): { readonly file: URL; readonly found: string; readonly expected: string } => {
  const file = new URL(`../../docs/${name}`, import.meta.url)
  const found = readFileSync(file, "utf8")
  const [before, rest] = found.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error(`docs/${name} lacks the comments that enclose the tables`)
  return { file, found, expected: `${before}${begin}\n\n${tables(name)}\n\n${end}${after}` }
}
