/**
 * The name and the version of the program. Imports nothing, so that `greenroom --help` is quick.
 */

/** The version that `--version` and `/health` tell. */
export const version = "0.1.0"

/** How the program calls itself in front of its errors. */
export const name = "greenroom"
