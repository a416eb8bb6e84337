/**
 * The answer to a request that sends an event comes before the event reaches the device by a request that waits. The other way
 * round matrix-js-sdk 43 loses track of what it sends in threads: the promise of the send never settles.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import { Effect } from "effect"

/** How long an answer waits that has an event which the device sent, and how old such an event is at most, in ms. */
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
