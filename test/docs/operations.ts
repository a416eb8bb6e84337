/**
 * Writes `operations.txt`, the operations of the client-server API, from a copy of `matrix-org/matrix-spec`:
 *
 *     node test/docs/operations.ts path/to/matrix-spec/data
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { parse } from "yaml"

const methods = ["get", "put", "post", "delete", "head", "options"]

interface Document {
  readonly servers?: ReadonlyArray<{ readonly variables?: { readonly basePath?: { readonly default?: string } } }>
  readonly paths?: { readonly [path: string]: { readonly [method: string]: unknown } }
}

const operationsOf = ({ paths = {}, servers }: Document): ReadonlyArray<string> => {
  const base = servers?.[0]?.variables?.basePath?.default ?? ""
  return Object.entries(paths).flatMap(([name, item]) =>
    methods.flatMap((method) => (item[method] === undefined ? [] : [`${method.toUpperCase()} ${base}${name}`.trim()]))
  )
}

const folder = path.join(process.argv[2] ?? ".", "api/client-server")
const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"))
const operations = files.flatMap((name) =>
  operationsOf(parse(readFileSync(path.join(folder, name), "utf8")) as Document)
)
writeFileSync(new URL("operations.txt", import.meta.url), `${[...new Set(operations)].sort().join("\n")}\n`)
