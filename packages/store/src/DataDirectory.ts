/**
 * Data directories: made with the directories above them, with the same permissions whatever the umask is, and synced.
 *
 * Node's recursive `mkdir` never returns if a directory cannot be created although its parent exists, as in `/proc`.
 * `makeDataDirectory` creates one directory after the other, and fails if the system refuses one.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"

const isThere = async (directory: string): Promise<boolean> => {
  const found = await fs.stat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  if (found === undefined) return false
  if (!found.isDirectory()) throw new Error(`${directory} is not a directory`)
  return true
}

/** Other accounts may traverse a data directory, because PostgreSQL may run under one of them, but not list it. */
const traversable = 0o711

/** True if the directory was created, false if it existed. Fails with an error whose message is one line. */
export const makeDataDirectory = async (directory: string, mode = traversable): Promise<boolean> => {
  if (await isThere(directory)) return false
  const parent = path.dirname(path.resolve(directory))
  if (parent !== path.resolve(directory)) await makeDataDirectory(parent, mode)
  await fs.mkdir(directory, { mode }).then(
    () => fs.chmod(directory, mode),
    (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error
    }
  )
  return true
}

/** Syncs the entries of a directory: a file that was created or renamed in it survives a crash. */
export const syncDirectory = async (directory: string): Promise<void> => {
  const handle = await fs.open(directory, "r")
  await handle.sync().finally(() => handle.close())
}
