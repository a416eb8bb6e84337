/** The version that `--version` and `/health` show. */
export const version = "0.1.0"
