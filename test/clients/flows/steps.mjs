/**
 * The parts of a flow in JavaScript. A flow is a program that drives one client library against the server named by
 * its arguments `--url`, `--server-name` and `--room-version`, and writes a line `STEP {"name", "ok", "error"}` for each step.
 */
import { randomBytes } from "node:crypto"
import { setTimeout as delay } from "node:timers/promises"
import { parseArgs } from "node:util"

const text = { type: "string" }
const { values } = parseArgs({ options: { url: text, "server-name": text, "room-version": text } })

export const url = values.url
export const serverName = values["server-name"]
/** The version of the rooms that the server creates. */
export const roomVersion = values["room-version"]
/** The version to which rooms are upgraded. */
export const otherVersion = roomVersion === "12" ? "11" : "12"

export const password = "correct horse battery staple"

/** A local part that no earlier run has used. */
export const fresh = (name) => `${name}-${randomBytes(6).toString("hex")}`

/** The time limit of a step, in milliseconds. */
const limit = 30_000

const describe = (error) => {
  const lines = `${error?.message ?? error}`.split("\n").map((line) => line.trim())
  return lines
    .filter((line) => line !== "" && line !== "Call log:")
    .slice(0, 2)
    .join(" ")
    .slice(0, 300)
}

const report = (name, outcome) => process.stdout.write(`STEP ${JSON.stringify({ name, ...outcome })}\n`)

/** How long the operator has worked, in milliseconds. The time limit of a step does not include restarts of its server. */
let operated = 0

/** Rejects after the time limit, extended by the time of the operator. */
const waitTooLong = async (signal) => {
  const end = performance.now() + limit - operated
  while (performance.now() < end + operated) await delay(end + operated - performance.now(), undefined, { signal })
  throw new Error(`not within ${limit / 1000} seconds`)
}

/** Runs a step for a limited time. Returns its value, or undefined if it failed. */
export const step = async (name, run) => {
  const late = new AbortController()
  const tooLate = waitTooLong(late.signal)
  try {
    const value = await Promise.race([run(), tooLate])
    report(name, { ok: true })
    return value
  } catch (error) {
    report(name, { ok: false, error: describe(error) })
    return undefined
  } finally {
    tooLate.catch(() => undefined)
    late.abort()
  }
}

export const check = (holds, message) => {
  if (!holds) throw new Error(message)
}

/** Calls `look` every 50 ms until it returns something, and returns that. */
export const until = async (look) => {
  for (let count = 0; count < limit / 50; count++) {
    const found = await look()
    if (found) return found
    await delay(50)
  }
  throw new Error(`nothing found: ${look}`)
}

let questions = 0

const askOperator = (question) =>
  new Promise((resolve, reject) => {
    const id = questions++
    const begin = performance.now()
    const onAnswer = (answer) => {
      if (answer.id !== id) return
      process.off("message", onAnswer)
      operated += performance.now() - begin
      if (answer.error === undefined) resolve(answer)
      else reject(new Error(answer.error))
    }
    process.on("message", onAnswer)
    process.send({ id, ...question })
  })

/** Kills and restarts the server if it belongs to this flow. The control is not restarted. */
export const killServer = () => askOperator({ call: "killAndRestart" })

/** The tables and files of the server that contain the text unencrypted; undefined if the server does not belong to this flow. */
export const searchServer = async (text) => (await askOperator({ call: "search", text })).result

/** Ends the program, even if the client has timers or connections left. */
export const end = () => process.stdout.write("", () => process.exit(0))
