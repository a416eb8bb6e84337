/**
 * The extensions of sliding sync that are about encryption: messages to the device, and what its keys need.
 *
 * Messages have a token of their own, so that a connection without the extension loses none.
 *
 * Source: MSC4538 (to_device) and MSC4543 (e2ee), with the names of the endpoint of MSC3575.
 */
import type { SlidingExtensions as Wanted } from "@greenroom/protocol/client-server/SlidingSyncApi"
import { InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { EventLog } from "@greenroom/store/EventLog"
import type { StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import { makeReadToken } from "../../runtime/StreamTokens.ts"
import type { SlidingExtensionAnswers } from "../SlidingAnswer.ts"
import { makeSyncDevices, maxMessages } from "./SyncDevices.ts"

export const makeSlidingDevices = Effect.gen(function* () {
  const log = yield* EventLog
  const devices = yield* makeSyncDevices
  const readToken = yield* makeReadToken

  /** The position up to which the client has messages, which are deleted; none for a token from a lost future. */
  const acknowledged = Effect.fnUntraced(function* (
    session: Session,
    { to_device }: Wanted
  ): Effect.fn.Return<StreamPosition | undefined, MatrixError> {
    if (!to_device?.enabled) return undefined
    if (to_device.limit === 0) return yield* new InvalidParam({ error: "extensions.to_device.limit: must be positive" })
    if (to_device.since == null) return undefined
    const seen = yield* readToken(to_device.since).pipe(
      Effect.map(({ position }) => position),
      Effect.catch(({ isLost, reason }) =>
        isLost ? Effect.undefined : Effect.fail(new InvalidParam({ error: `extensions.to_device.since: ${reason}` }))
      )
    )
    if (seen !== undefined) yield* devices.acknowledge(session, seen)
    return seen
  })

  /** `isNews` says whether a waiting request ends with the answer. */
  const read = Effect.fnUntraced(function* (
    session: Session,
    { e2ee, to_device }: Wanted,
    messagesSeen: StreamPosition | undefined,
    since: StreamPosition | undefined,
    upTo: StreamPosition
  ): Effect.fn.Return<{
    readonly answer: Pick<SlidingExtensionAnswers, "to_device" | "e2ee">
    readonly isNews: boolean
  }> {
    if (!e2ee?.enabled && !to_device?.enabled) return { answer: {}, isNews: false }
    const limit = to_device?.enabled ? Math.min(to_device.limit ?? maxMessages, maxMessages) : 0
    const found = yield* devices.read({ session, since, messagesSeen, upTo, limit })
    const { to_device: messages, ...keys } = found.answer
    const lists = keys.device_lists
    const listsChanged = lists !== undefined && lists.changed.length + lists.left.length > 0
    return {
      answer: {
        ...(to_device?.enabled
          ? { to_device: { next_batch: yield* log.tokenOf(found.messagesSeen), events: messages.events } }
          : {}),
        ...(e2ee?.enabled ? { e2ee: keys } : {})
      },
      isNews: messages.events.length > 0 || (e2ee?.enabled === true && listsChanged)
    }
  })

  return { acknowledged, read }
})
