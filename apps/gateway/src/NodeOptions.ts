/**
 * The options of V8 with which the home server runs, however it is started: they cannot be changed once a process has begun, or have
 * no effect on modules that are loaded. `docs/benchmarks.md` has their effect.
 *
 * Call it before other modules are loaded, so import those afterwards by `import()`.
 */

export const v8Options: ReadonlyArray<string> = [
  "--max-semi-space-size=16",
  "--no-allocation-site-pretenuring",
  // Every function is compiled with its module, which the cache of compiled modules spares, instead of in the request that first calls it.
  "--no-lazy"
]

/** What an option and its opposite have in common: that of `--no-lazy` and of `--lazy` is `lazy`. */
const nameOf = (option: string): string =>
  option
    .replace(/^--(no-?)?/, "")
    .replace(/=.*$/, "")
    .replaceAll("_", "-")

/** The options that the operator has not set, to these values or others. */
const missingOptions = (): ReadonlyArray<string> => {
  const given = new Set([...process.execArgv, ...(process.env.NODE_OPTIONS ?? "").split(/\s+/)].map(nameOf))
  return v8Options.filter((option) => !given.has(nameOf(option)))
}

/**
 * Replaces the program of this process by Node with the missing options. The process stays the same for its supervisor. Without effect on
 * Windows, and in a process that talks with its parent by the channel of Node.
 */
export const useV8Options = (): void => {
  const missing = missingOptions()
  if (missing.length === 0 || process.execve === undefined || process.platform === "win32" || process.connected) return
  process.execve(process.execPath, [process.execPath, ...missing, ...process.execArgv, ...process.argv.slice(1)])
}
