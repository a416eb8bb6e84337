/**
 * Reads the answer to a request of Effect's HTTP client as text. Effect's own `text` keeps each chunk until the last has arrived, and
 * the other server decides how small chunks are: see `ByteCollector`.
 */
import { Data, Effect, Stream } from "effect"
import type { HttpIncomingMessage } from "effect/http"
import { ByteCollector } from "./ByteCollector.ts"

/** The answer has more bytes than are read. */
export class AnswerTooLarge extends Data.TaggedError("AnswerTooLarge")<{ readonly maxBytes: number }> {
  override get message(): string {
    return `the answer is larger than ${this.maxBytes} bytes`
  }
}

/** The body of an answer as UTF-8, of at most `maxBytes` bytes. */
export const answerText = <E>(
  { stream }: HttpIncomingMessage.HttpIncomingMessage<E>,
  maxBytes: number
): Effect.Effect<string, E | AnswerTooLarge> =>
  Effect.suspend(() => {
    const bytes = new ByteCollector()
    const collected = Stream.runForEachArray(stream, (chunks) => {
      for (const { buffer, byteOffset, length } of chunks) bytes.add(Buffer.from(buffer, byteOffset, length))
      return bytes.length > maxBytes ? Effect.fail(new AnswerTooLarge({ maxBytes })) : Effect.void
    })
    return Effect.map(collected, () => new TextDecoder().decode(bytes.take()))
  })
