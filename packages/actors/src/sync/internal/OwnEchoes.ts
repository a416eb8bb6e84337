/**
 * Delays events on their way back to the device that sent them, so that the answer to the send comes first. In the other order
 * matrix-js-sdk 43 loses track of what it sends in threads: the promise of the send never settles.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import { Effect } from "effect"

/** How long an answer with an event of the device itself waits, and up to which age of that event, in ms. */
const answerTime = 25
const recent = 1_000

const isRecentEcho = ({ unsigned }: ClientServerEvent): boolean =>
  unsigned?.transaction_id !== undefined && (unsigned.age ?? 0) < recent

/** Waits where the device sent one of the events just now. */
export const afterSends = (timelines: Iterable<ReadonlyArray<ClientServerEvent>>): Effect.Effect<void> =>
  Effect.suspend(() => {
    for (const timeline of timelines) if (timeline.some(isRecentEcho)) return Effect.sleep(answerTime)
    return Effect.void
  })
