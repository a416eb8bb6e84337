/** A later version of the program: a copy of the sources with one more migration. */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { make as makeTree, root } from "./SourceTree.ts"

const migration = `import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql\`ALTER TABLE rooms ADD COLUMN next_build text NOT NULL DEFAULT 'of the next build'\`
  yield* sql\`ALTER TABLE events ADD COLUMN next_build integer\`
  yield* sql\`CREATE TABLE next_build (number integer)\`
  yield* sql\`INSERT INTO next_build VALUES (1)\`
})
`

const isSource = (source: string): boolean => !/\/(node_modules|test|dist)(\/|$)/.test(source.slice(root.length - 1))

const fill = async (directory: string): Promise<void> => {
  for (const part of ["packages", "apps"]) {
    await fs.cp(path.join(root, part), path.join(directory, part), { recursive: true, filter: isSource })
  }
  await fs.copyFile(path.join(root, "package.json"), path.join(directory, "package.json"))
  const store = path.join(directory, "packages/store/src")
  await fs.writeFile(path.join(store, "migrations/9999_next_build.ts"), migration)
  const database = path.join(store, "Database.ts")
  const text = await fs.readFile(database, "utf8")
  await fs.writeFile(
    database,
    text.replace(
      "const migrations = {",
      'const migrations = {\n  "9999_next_build": () => import("./migrations/9999_next_build.ts"),'
    )
  )
}

/** The file of the program. It is removed with the scope. */
export const make = makeTree(fill)
