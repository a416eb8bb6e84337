/**
 * A PostgreSQL of the system, as Debian installs it, with its `pg_dump`: the embedded one brings none, and a `pg_dump` reads no
 * server that is newer than itself. Durable, and with as much memory as the embedded one has.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { temporaryDirectory } from "./Server.ts"

export interface DebianPostgres extends AsyncDisposable {
  readonly url: string
  readonly pgDump: string
}

const versions = "/usr/lib/postgresql"

/** The directory of the newest version that has all programs. Undefined if there is none. */
const programs = (): string | undefined =>
  (fs.existsSync(versions) ? fs.readdirSync(versions) : [])
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => path.join(versions, version, "bin"))
    .find((bin) => ["initdb", "postgres", "pg_dump", "psql"].every((name) => fs.existsSync(path.join(bin, name))))

/** PostgreSQL does not run as root. */
const account = (): { readonly uid?: number; readonly gid?: number } => {
  if (process.getuid?.() !== 0) return {}
  const idOf = (option: string) => Number(execFileSync("id", [option, "postgres"]).toString())
  return { uid: idOf("-u"), gid: idOf("-g") }
}

const waitUntilReady = (child: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    let said = ""
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (said.includes("ready to accept connections")) resolve()
    })
    child.once("exit", () => reject(new Error(`PostgreSQL did not start: ${said}`)))
  })

/** Starts it on a fresh directory. Undefined if Debian's PostgreSQL is not installed. */
export const startDebianPostgres = async (): Promise<DebianPostgres | undefined> => {
  const bin = programs()
  if (bin === undefined) return undefined
  const [directory, as] = [await temporaryDirectory(), account()]
  if (as.uid !== undefined) fs.chownSync(directory, as.uid, as.gid!)
  const files = path.join(directory, "files")
  const run = (name: string, args: ReadonlyArray<string>) =>
    execFileSync(path.join(bin, name), args, { ...as, cwd: directory, stdio: ["ignore", "pipe", "pipe"] })
  run("initdb", ["-D", files, "-U", "greenroom", "--auth=trust", "--locale=C", "--encoding=UTF8"])
  const settings = { listen_addresses: "", unix_socket_directories: directory, max_wal_size: "1GB", jit: "off" }
  const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  const child = spawn(path.join(bin, "postgres"), ["-D", files, ...options], {
    ...as,
    cwd: directory,
    stdio: ["ignore", "ignore", "pipe"]
  })
  await waitUntilReady(child)
  run("psql", ["-h", directory, "-U", "greenroom", "-d", "postgres", "-c", "CREATE DATABASE greenroom"])
  return {
    url: `postgresql:///greenroom?host=${encodeURIComponent(directory)}&user=greenroom`,
    pgDump: path.join(bin, "pg_dump"),
    [Symbol.asyncDispose]: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGINT")
      await ended
      fs.rmSync(directory, { recursive: true, force: true })
    }
  }
}
