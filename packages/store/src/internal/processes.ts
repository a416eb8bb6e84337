/**
 * Other processes of this machine: from `/proc` on Linux, from `ps` elsewhere.
 */
import { type ChildProcess, execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { setTimeout } from "node:timers/promises"
import { promisify } from "node:util"

export interface RunningProcess {
  readonly pid: number
  /** The command with its arguments, separated by blanks. */
  readonly command: string
}

const run = promisify(execFile)

const linux = process.platform === "linux"

/**
 * The start time of a process, which distinguishes it from a later one with the same number. Undefined if there is no such
 * process, or only its zombie.
 */
export const processIdentity = async (pid: number): Promise<string | undefined> => {
  if (!linux) {
    const { stdout } = await run("ps", ["-o", "lstart=", "-p", String(pid)]).catch(() => ({ stdout: "" }))
    return stdout.trim() === "" ? undefined : stdout.trim()
  }
  const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined)
  if (stat === undefined) return undefined
  // The second field is the name in parentheses, which may hold blanks and parentheses.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  if (fields[0] === "Z" || fields[0] === "X") return undefined
  const boot = await fs.readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "")
  return `${boot.trim()}/${fields[19]}`
}

/** The command of one process, empty if there is none. */
export const commandOf = async (pid: number): Promise<string> => {
  if (!linux) {
    const { stdout } = await run("ps", ["-ww", "-o", "command=", "-p", String(pid)]).catch(() => ({ stdout: "" }))
    return stdout.trim()
  }
  const text = await fs.readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")
  return text.replaceAll("\0", " ").trim()
}

const allProcesses = async (): Promise<ReadonlyArray<RunningProcess>> => {
  if (linux) {
    const pids = (await fs.readdir("/proc")).map(Number).filter((pid) => pid > 0)
    return Promise.all(pids.map(async (pid) => ({ pid, command: await commandOf(pid) })))
  }
  const { stdout } = await run("ps", ["-axww", "-o", "pid=,command="], { maxBuffer: 64 * 1024 * 1024 })
  return stdout.split("\n").map((line) => {
    const [, pid, command] = /^\s*(\d+)\s+(.*)$/.exec(line) ?? []
    return { pid: Number(pid), command: command ?? "" }
  })
}

/** The processes whose command passes the test. */
export const findProcesses = async (test: (command: string) => boolean): Promise<ReadonlyArray<RunningProcess>> => {
  const found = (await allProcesses()).filter(({ pid, command }) => pid !== process.pid && test(command))
  const identities = await Promise.all(found.map(({ pid }) => processIdentity(pid)))
  return found.filter((_, index) => identities[index] !== undefined)
}

/** Sends the signal; does nothing if the process has ended. */
export const sendSignal = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

/** Waits until a condition holds. False if it did not within `milliseconds`. */
export const waitUntil = async (condition: () => Promise<boolean>, milliseconds: number): Promise<boolean> => {
  const end = performance.now() + milliseconds
  while (!(await condition())) {
    if (performance.now() > end) return false
    await setTimeout(25)
  }
  return true
}

/** Waits for the end of a process: its exit code or the signal that ended it. */
export const exited = (child: ChildProcess): Promise<number | NodeJS.Signals> =>
  new Promise((resolve, reject) => {
    const ending = child.exitCode ?? child.signalCode
    if (ending !== null) return resolve(ending)
    child.once("error", reject)
    child.once("exit", (code, signal) => resolve(code ?? signal ?? 1))
  })
