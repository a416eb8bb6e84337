/**
 * Compares the migrations that a database has with those of the program. Effect's migrator compares only the
 * newest number, and would skip a missing migration below it.
 */

/** A row of the table of migrations. */
export interface AppliedMigration {
  readonly id: number
  readonly name: string
}

/** The name of a migration as the program lists it, such as `0003_federation`. */
const nameOf = ({ id, name }: AppliedMigration): string => `${String(id).padStart(4, "0")}_${name}`

/** The reason why the program cannot use a database (`found` completes a sentence that begins with its name), and the remedy. */
export interface MigrationsProblem {
  /** A newer version wrote the database. */
  readonly tooNew: boolean
  readonly found: string
  readonly remedy: string
}

/** Undefined if the applied migrations are the first ones of the program, which can apply the others. */
export const migrationsProblem = (
  applied: ReadonlyArray<AppliedMigration>,
  names: ReadonlyArray<string>
): MigrationsProblem | undefined => {
  const newest = Math.max(0, ...applied.map(({ id }) => id))
  const known = Math.max(0, ...names.map((name) => Number.parseInt(name, 10)))
  if (newest > known) {
    return {
      tooNew: true,
      found: `is at version ${newest}, and this Greenroom knows ${known}`,
      remedy: "Run the version that wrote it, or a newer one."
    }
  }
  const found = new Set(applied.map(nameOf))
  const missing = names.find((name) => Number.parseInt(name, 10) <= newest && !found.has(name))
  const foreign = [...found].find((name) => !names.includes(name))
  if (missing === undefined && foreign === undefined) return undefined
  return {
    tooNew: false,
    found:
      missing === undefined
        ? `has the migration ${foreign}, which this Greenroom does not know`
        : `lacks the migration ${missing}, though it has newer ones`,
    remedy: "A development version made it: run that version, or begin with a new database."
  }
}
