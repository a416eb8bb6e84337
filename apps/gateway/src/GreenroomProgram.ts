/**
 * The name and the version of the program. Imports nothing, so that `greenroom --help` is quick.
 */

/** The version that `--version` and `/health` show. */
export const version = "0.1.0"

/** The name of the program in front of its errors. */
export const name = "greenroom"
