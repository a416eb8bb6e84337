/**
 * Answers with long lists of events. The events are signed and written a few at a time, so that the other server can verify the
 * first ones at the same time, and the whole answer is not in memory.
 *
 * Such an answer holds a permit for large reads. It does not wait for a server that reads slowly: what is left is written into the
 * memory of the connection then, and counts as unread.
 */
import type { ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type { Event } from "@greenroom/protocol/Event"
import type { JsonObject } from "@greenroom/protocol/Json"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type Cause, Effect } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { countUnread, type UnreadAnswers } from "../UnreadAnswers.ts"

/** How many events are signed and written at once. */
const writtenAtOnce = 100

/** How long an answer waits for its reader, in ms, all waits together. */
const longestWait = 3_000

/** The time after which the connection of a server that does not read is closed, in ms. */
const idleTimeout = 60_000

/** Waits until the connection takes more, or is closed. */
const drained = (response: ServerResponse): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const done = () => {
      response.off("drain", done).off("close", done)
      resume(Effect.void)
    }
    response.on("drain", done).on("close", done)
    return Effect.sync(() => response.off("drain", done).off("close", done))
  })

/** Writes text, and waits for its reader as long as there is time left for that. */
const makeWriter = (response: ServerResponse) => {
  let left = longestWait
  return Effect.fnUntraced(function* (text: string) {
    if (response.closed || response.write(Buffer.from(text)) || left <= 0) return
    const begun = yield* monotonicMillis
    yield* Effect.timeoutOption(drained(response), left)
    left -= (yield* monotonicMillis) - begun
  })
}

/** Closes the connection of an answer that cannot be completed, so that it does not look complete. */
const cutOff = (response: ServerResponse, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => response.destroy()),
    Effect.logError("An answer to another server could not be completed", cause)
  )

/** Sends an object of the given values and lists, whose events become PDUs by `toPdus`. */
export const streamPdus = Effect.fnUntraced(function* (
  unread: UnreadAnswers["Service"],
  values: JsonObject,
  lists: { readonly [key: string]: ReadonlyArray<Event> },
  toPdus: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<JsonObject>>
) {
  const request = yield* HttpServerRequest.HttpServerRequest
  const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  const write = makeWriter(response)
  const writing = Effect.gen(function* () {
    let text = JSON.stringify(values).slice(0, -1)
    for (const [key, events] of Object.entries(lists)) {
      text += `${text === "{" ? "" : ","}${JSON.stringify(key)}:[`
      for (let index = 0; index < events.length; index += writtenAtOnce) {
        const pdus = yield* toPdus(events.slice(index, index + writtenAtOnce))
        text += (index === 0 ? "" : ",") + pdus.map((pdu) => JSON.stringify(pdu)).join(",")
        yield* write(text)
        text = ""
        if (response.closed) return
      }
      text += "]"
    }
    yield* write(`${text}}`)
  })
  response.writeHead(200, { "content-type": "application/json" })
  response.setTimeout(idleTimeout, () => response.destroy())
  yield* Effect.catchCause(writing, (cause) => cutOff(response, cause))
  // Effect must not write the response, which has ended here.
  response.end()
  countUnread(unread, response, response.writableLength)
  return HttpServerResponse.empty()
})
