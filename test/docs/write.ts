/** Writes the table of endpoints into `docs/matrix.md`. */
import { writeFileSync } from "node:fs"
import { document } from "./MatrixEndpoints.ts"

const { expected, file } = document()
writeFileSync(file, expected)
