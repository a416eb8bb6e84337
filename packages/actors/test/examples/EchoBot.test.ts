import { assert, describe, it } from "@effect/vitest"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect } from "effect"
import { startExample } from "./startExample.ts"

/** Says these lines to the bot, and returns what the program writes until it ends. */
const talk = Effect.fnUntraced(function* (directory: string, ...said: ReadonlyArray<string>) {
  const { end, exit, output } = yield* startExample("EchoBot", [directory])
  end(`${said.join("\n")}\n`)
  return { code: yield* exit, output: output() }
}, Effect.scoped)

describe("EchoBot", () => {
  it.live(
    "answers messages, and remembers the conversation at the next start",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory("example")
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
