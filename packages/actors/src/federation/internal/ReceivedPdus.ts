/**
 * PDUs of a room in the answers of other servers, verified: lists in one piece, the lists of a join while they arrive, single PDUs.
 *
 * Source: "PDUs" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { Effect, Fiber, Result } from "effect"
import { RemoteFailure } from "../../room/RemoteRooms.ts"
import { type PduVerification, problemText, type VerificationOptions } from "../PduVerification.ts"

/** How many batches of PDUs are verified at a time, and how long a further one waits for the first of them. */
const batchesAtOnce = 3
const longestBatchWait = "250 millis"

export const makeReceivedPdus = (verification: PduVerification["Service"]) => {
  /** Each PDU as an event, or why it is invalid. */
  const verify = Effect.fnUntraced(function* (
    version: RoomVersion,
    pdus: ReadonlyArray<unknown>,
    options?: VerificationOptions
  ) {
    const results = yield* verification.verifyPdus(version, pdus, options)
    return results.map(Result.mapError(problemText))
  })

  /** The valid PDUs of the room, and why the others are not. */
  const partition = Effect.fnUntraced(function* (
    version: RoomVersion,
    roomId: RoomId,
    pdus: ReadonlyArray<unknown>,
    options?: VerificationOptions
  ) {
    const events: Array<Event> = []
    const reasons: Array<string> = []
    for (const entry of yield* verify(version, pdus, { ...options, roomId })) {
      if (Result.isFailure(entry)) reasons.push(entry.failure)
      else events.push(entry.success)
    }
    return { events, reasons }
  })

  const logInvalid = (destination: ServerName, roomId: RoomId, reasons: ReadonlyArray<string>) =>
    reasons.length === 0
      ? Effect.void
      : Effect.logWarning(
          `${reasons.length} bad PDUs of ${roomId} from ${destination} are ignored, the first because ${reasons[0]}`
        )

  /** The valid PDUs of the room. Invalid ones are logged. */
  const validOf = (
    destination: ServerName,
    version: RoomVersion,
    roomId: RoomId,
    pdus: ReadonlyArray<unknown>,
    options?: VerificationOptions
  ) =>
    Effect.flatMap(partition(version, roomId, pdus, options), ({ events, reasons }) =>
      Effect.as(logInvalid(destination, roomId, reasons), events)
    )

  /**
   * Verifies the lists of a join batch by batch, while the next ones arrive. A batch that waits for keys of unreachable servers delays
   * the batches after it by `longestBatchWait` at most. No batch is referred to afterwards: V8 keeps the closure of a generator until it
   * collects the whole heap.
   */
  const verifyArriving = (destination: ServerName, version: RoomVersion, roomId: RoomId) => {
    type Partitioned = Effect.Success<ReturnType<typeof partition>>
    const batches: Array<{ readonly list: string; readonly fiber: Fiber.Fiber<Partitioned> }> = []
    const take = Effect.fnUntraced(function* (list: string, pdus: ReadonlyArray<unknown>) {
      const before = batches.at(-batchesAtOnce)
      if (before !== undefined) yield* Effect.timeoutOption(Fiber.await(before.fiber), longestBatchWait)
      const fiber = yield* Effect.forkScoped(partition(version, roomId, pdus, { voucher: destination }))
      batches.push({ list, fiber })
    })
    const verified = Effect.gen(function* () {
      const events = new Map<string, Array<Event>>()
      const reasons: Array<string> = []
      for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
        const { fiber, list } = batch
        const found = yield* Fiber.join(fiber)
        const of = events.get(list)
        if (of === undefined) events.set(list, found.events)
        else for (const event of found.events) of.push(event)
        reasons.push(...found.reasons)
      }
      yield* logInvalid(destination, roomId, reasons)
      return { state: events.get("state") ?? [], authChain: events.get("auth_chain") ?? [] }
    })
    return { take, verified }
  }

  /** One PDU of any room. Errors: RemoteFailure. */
  const verifyPdu = Effect.fnUntraced(function* (destination: ServerName, version: RoomVersion, pdu: unknown) {
    const [result] = yield* verify(version, [pdu])
    if (Result.isSuccess(result!)) return result.success
    return yield* new RemoteFailure({ destination, reason: `bad PDU: ${result!.failure}` })
  })

  return { verifyArriving, validOf, verify, verifyPdu }
}
