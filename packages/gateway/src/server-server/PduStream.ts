/**
 * Answers with long lists of events. The events are signed and written a few at a time, so that the other server can verify the
 * first ones at the same time, and the whole answer is never in memory.
 */
import type { ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type { Event } from "@greenroom/protocol/Event"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type Cause, Effect } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

/** How many events are signed and written at once. */
const writtenAtOnce = 100

/** The time after which the connection of a server that does not read is closed, in ms. */
const idleTimeout = 60_000

/** Waits until the connection takes more, or is closed. */
const drained = (response: ServerResponse): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const done = () => {
      clearTimeout(timer)
      response.off("drain", done).off("close", done)
      resume(Effect.void)
    }
    const timer = setTimeout(() => response.destroy(), idleTimeout)
    response.on("drain", done).on("close", done)
  })

const write = (response: ServerResponse, text: string): Effect.Effect<void> =>
  Effect.suspend(() => (response.closed || response.write(text) ? Effect.void : drained(response)))

/** Closes the connection of an answer that cannot be completed, so that it does not look complete. */
const cutOff = (response: ServerResponse, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => response.destroy()),
    Effect.logError("An answer to another server could not be completed", cause)
  )

/** Sends an object of the given values and lists, whose events become PDUs by `toPdus`. */
export const streamPdus = Effect.fnUntraced(function* (
  values: JsonObject,
  lists: { readonly [key: string]: ReadonlyArray<Event> },
  toPdus: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<JsonObject>>
) {
  const request = yield* HttpServerRequest.HttpServerRequest
  const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  const writing = Effect.gen(function* () {
    let text = JSON.stringify(values).slice(0, -1)
    for (const [key, events] of Object.entries(lists)) {
      text += `${text === "{" ? "" : ","}${JSON.stringify(key)}:[`
      for (let index = 0; index < events.length; index += writtenAtOnce) {
        const pdus = yield* toPdus(events.slice(index, index + writtenAtOnce))
        text += (index === 0 ? "" : ",") + pdus.map((pdu) => JSON.stringify(pdu)).join(",")
        yield* write(response, text)
        text = ""
        if (response.closed) return
      }
      text += "]"
    }
    yield* write(response, `${text}}`)
  })
  response.writeHead(200, { "content-type": "application/json" })
  yield* Effect.catchCause(writing, (cause) => cutOff(response, cause))
  // Effect must not write the response, which has ended here.
  response.end()
  return HttpServerResponse.empty()
})
