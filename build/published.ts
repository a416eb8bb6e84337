/**
 * The package.json of a package as it is published.
 */
import * as fs from "node:fs"

/** The backup of the repository's package.json while npm packs, relative to the package. */
export const saved = "dist/package.json.saved"

/** `null` for each folder `internal`: it cannot be imported from outside. A key of `exports` may have one `*` only. */
const closed = (): Record<string, null> =>
  Object.fromEntries(
    fs
      .readdirSync("src", { recursive: true, encoding: "utf8" })
      .filter((folder) => folder === "internal" || folder.endsWith("/internal"))
      .map((folder) => [`./${folder}/*`, null])
  )

interface Manifest {
  readonly [field: string]: unknown
  readonly scripts?: unknown
  readonly devDependencies?: unknown
  readonly publishConfig: { readonly access: string; readonly bin?: unknown; readonly exports: object }
}

/** `file` with the fields of its `publishConfig`, and without what is of use in the repository only. */
export const published = (file: string): object => {
  const {
    devDependencies: _,
    publishConfig,
    scripts: __,
    ...manifest
  }: Manifest = JSON.parse(fs.readFileSync(file, "utf8"))
  const { access, exports, ...fields } = publishConfig
  return { ...manifest, ...fields, exports: { ...exports, ...closed() }, publishConfig: { access } }
}
