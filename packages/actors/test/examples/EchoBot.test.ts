import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const program = fileURLToPath(new URL("../../examples/EchoBot.ts", import.meta.url))

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-bot-"))
    await fs.chmod(directory, 0o711)
    return directory
  }),
  (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
)

/** Says these lines to the bot, and returns what the program writes until it ends. */
const talk = (directory: string, ...said: ReadonlyArray<string>) =>
  Effect.callback<{ readonly output: string; readonly code: number | null }>((resume) => {
    const child = spawn(process.execPath, [program, directory], { stdio: ["pipe", "pipe", "inherit"] })
    let output = ""
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.once("close", (code) => resume(Effect.succeed({ output, code })))
    child.stdin.end(`${said.join("\n")}\n`)
    return Effect.sync(() => child.kill())
  })

describe("EchoBot", () => {
  it.live(
    "answers messages, and remembers the conversation at the next start",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const first = yield* talk(directory, "Hello", "How are you?")
        assert.strictEqual(first.code, 0)
        assert.include(first.output, "so far: 0.")
        assert.include(first.output, "You said: Hello\nYou said: How are you?\n")
        const second = yield* talk(directory, "Still there?")
        assert.strictEqual(second.code, 0)
        assert.include(second.output, "so far: 4.")
        assert.include(second.output, "You said: Still there?\n")
      }),
    180_000
  )
})
