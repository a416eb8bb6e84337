/**
 * Commands of `greenroom` within the process of the test: the same as the program runs, without the second that a process needs to
 * start. That the program itself prints and ends as it should is left to the tests of processes.
 */
import { NodeServices } from "@effect/platform-node"
import { Console, Effect, Layer, Stdio, Stream } from "effect"
import { groups } from "../../src/admin/Groups.ts"
import { commandProgram } from "../../src/admin/RunCommand.ts"
import { name } from "../../src/GreenroomProgram.ts"
import { describeFailure } from "../../src/StartFailure.ts"

export interface Said {
  readonly code: number
  readonly out: string
  readonly error: string
}

/** A command with these words, and a line of standard input. */
export const command = ([word = "", ...words]: ReadonlyArray<string>, input = ""): Effect.Effect<Said> =>
  Effect.gen(function* () {
    const said = { out: "", error: "" }
    const console = Object.assign(Object.create(globalThis.console) as Console.Console, {
      log: (...lines: ReadonlyArray<unknown>) => {
        said.out += `${lines.join(" ")}\n`
      },
      error: (...lines: ReadonlyArray<unknown>) => {
        said.error += `${lines.join(" ")}\n`
      }
    })
    const load = groups[word]?.load
    if (load === undefined) return yield* Effect.die(new Error(`There are no commands ${word}`))
    const stdin = Stdio.layerTest({ stdin: Stream.encodeText(Stream.make(`${input}\n`)) })
    const failure = yield* commandProgram(yield* Effect.promise(load), words).pipe(
      Effect.provide(Layer.merge(NodeServices.layer, stdin)),
      Effect.provideService(Console.Console, console),
      Effect.matchCause({ onFailure: (cause) => ({ cause }), onSuccess: () => undefined })
    )
    if (failure === undefined) return { code: 0, ...said }
    const message = describeFailure(failure.cause)
    if (message !== undefined) said.error += `${name}: ${message.replace(/\s*\n\s*/g, " ")}\n`
    return { code: 1, ...said }
  })
