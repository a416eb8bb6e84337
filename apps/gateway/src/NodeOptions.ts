/**
 * The options of V8 with which the home server runs, however it is started: they cannot be changed once a process has begun, or have
 * no effect on modules that are loaded. `docs/benchmarks.md` has their effect.
 *
 * Call it before other modules are loaded, so import those afterwards by `import()`.
 */

/** By the name that is part of every form of the option. */
const options = {
  "max-semi-space-size": "--max-semi-space-size=16",
  "allocation-site-pretenuring": "--no-allocation-site-pretenuring"
}

export const v8Options: ReadonlyArray<string> = Object.values(options)

/** The options that the operator has not set, to these values or others. */
const missingOptions = (): ReadonlyArray<string> => {
  const given = [...process.execArgv, process.env.NODE_OPTIONS].join(" ")
  return Object.entries(options).flatMap(([name, option]) => (given.includes(name) ? [] : [option]))
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
