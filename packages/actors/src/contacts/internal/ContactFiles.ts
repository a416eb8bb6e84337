/**
 * Reads the cards of a file, vCard or jCard: one card at a time is in memory as text. Faults name the card.
 */
import type { Readable } from "node:stream"
import { BadRequest, InvalidParam, type MatrixError, NotJson, TooLarge } from "@greenroom/protocol/MatrixError"
import { Effect, Stream } from "effect"
import { sliced } from "../../runtime/Slices.ts"
import type { Card } from "./Card.ts"

/** The format of an exported address book. */
export type CardFormat = "vcard" | "jcard"

/** A file with cards. Without a format it is determined by the first character. */
export interface FileOfCards {
  readonly body: Readable
  /** Bytes, if they are known before. */
  readonly length: number | undefined
  readonly format: CardFormat | undefined
}

/** The most contacts of a user, and the most cards of a file. */
export const maxContacts = 20_000

/** The largest import, in bytes: room for the export of a full book, which folds lines and escapes characters. */
const maxImportBytes = 48 * 1024 * 1024

const brokenOff = new BadRequest({ error: "The file did not arrive whole" })
const importTooLarge = new TooLarge({ error: `The file is larger than ${maxImportBytes} bytes` })
const notUtf8 = new NotJson({ error: "The file is not UTF-8" })

const isError = (error: unknown): error is MatrixError =>
  error instanceof InvalidParam || error instanceof TooLarge || error instanceof NotJson

/** Protocol errors that a generator throws become its failure; everything else is a defect. */
export const failing = <A>(computation: () => Generator<void, A>): Effect.Effect<A, MatrixError> =>
  Effect.flatten(
    sliced(function* (): Generator<void, Effect.Effect<A, MatrixError>> {
      try {
        return Effect.succeed(yield* computation())
      } catch (error) {
        if (isError(error)) return Effect.fail(error)
        throw error
      }
    })
  )

/** The same for a function. */
export const attempt = <A>(read: () => A): Effect.Effect<A, MatrixError> =>
  failing(function* () {
    return read()
  })

/** The same error, with the number of the card. */
const ofCard = (number: number, error: unknown): unknown => {
  const text = isError(error) ? `Card ${number}: ${error.error}` : ""
  if (error instanceof InvalidParam) return new InvalidParam({ error: text })
  if (error instanceof TooLarge) return new TooLarge({ error: text })
  return error instanceof NotJson ? new NotJson({ error: text }) : error
}

/** `loaded`: the parsers, which are loaded on first use. */
export const makeContactFiles = (loaded: Effect.Effect<typeof import("./Loaded.ts")>) => {
  /** Reads all cards of a file. One card at a time is in memory as text. */
  const readCards = Effect.fnUntraced(function* ({ body, format, length }: FileOfCards) {
    const { jcardSplitter, readJcardText, readVcard, vcardSplitter } = yield* loaded
    if (length !== undefined && length > maxImportBytes) return yield* importTooLarge
    const decoder = new TextDecoder("utf-8", { fatal: true })
    const decode = (chunk: Uint8Array | undefined) =>
      Effect.try({ try: () => decoder.decode(chunk, { stream: chunk !== undefined }), catch: () => notUtf8 })
    const cards: Array<Card> = []
    let size = 0
    let reader: { readonly split: ReturnType<typeof vcardSplitter>; readonly read: (text: string) => Card } | undefined

    const take = (text: string, atEnd: boolean) =>
      failing(function* () {
        const first = text.trimStart()[0]
        if (reader === undefined && first !== undefined) {
          const isJcard = format === undefined ? first === "[" : format === "jcard"
          reader = isJcard
            ? { split: jcardSplitter(), read: readJcardText }
            : { split: vcardSplitter(), read: readVcard }
        }
        if (reader === undefined) return
        const { read, split } = reader
        for (const part of [...split.push(text), ...(atEnd ? split.end() : [])]) {
          try {
            cards.push(read(part))
          } catch (error) {
            throw ofCard(cards.length + 1, error)
          }
          if (cards.length > maxContacts) throw new TooLarge({ error: `The file has more than ${maxContacts} cards` })
          yield
        }
      })

    // The server drains the rest of a file that is refused.
    yield* Stream.fromAsyncIterable(
      body.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>,
      () => brokenOff
    ).pipe(
      Stream.runForEach((chunk) => {
        size += chunk.length
        if (size > maxImportBytes) return Effect.fail(importTooLarge)
        return Effect.flatMap(decode(chunk), (text) => take(text, false))
      })
    )
    yield* Effect.flatMap(decode(undefined), (text) => take(text, true))
    return cards
  })

  return readCards
}
