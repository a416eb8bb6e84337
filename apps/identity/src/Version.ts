/** The version that `--version` and `/health` tell. */
export const version = "0.1.0"
