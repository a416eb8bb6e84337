/** Writes the tables of endpoints into `docs/matrix.md` and `docs/admin.md`. */
import { writeFileSync } from "node:fs"
import { document, names } from "./MatrixEndpoints.ts"

for (const name of names) {
  const { expected, file } = document(name)
  writeFileSync(file, expected)
}
