import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const program = fileURLToPath(new URL("./support/StubbornProgram.ts", import.meta.url))

/** Sends SIGTERM to the program once it runs, and returns how it ended. */
const terminate = (kind: "waits" | "busy") =>
  Effect.callback<{ readonly ending: number | NodeJS.Signals | null; readonly stderr: string }>((resume) => {
    const child = spawn(process.execPath, [program, kind], { stdio: ["ignore", "pipe", "pipe"] })
    let stderr = ""
    child.stderr.on("data", (text) => {
      stderr += text
    })
    child.stdout.once("data", () => child.kill("SIGTERM"))
    child.once("close", (code, signal) => resume(Effect.succeed({ ending: code ?? signal, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("RunProgram", () => {
  it.live("interrupts work that outlasts SIGTERM, with one line in the log", () =>
    Effect.gen(function* () {
      const { ending, stderr } = yield* terminate("waits")
      assert.strictEqual(ending, 1)
      assert.strictEqual(stderr, "stubborn: cut off work that did not end within 0.1 seconds\n")
    })
  )

  it.live("kills a process whose event loop is blocked after SIGTERM", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* terminate("busy")).ending, "SIGKILL")
    })
  )
})
