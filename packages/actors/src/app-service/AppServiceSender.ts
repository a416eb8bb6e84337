/**
 * Sends application services the events of their namespaces: one sender per service in the whole cluster. It reads the log
 * on from where the last transaction ended, and each transaction is stored before it is sent, so that a service gets
 * everything, in order, and a repeat has the same ID and the same bytes.
 *
 * A transaction that the service refuses, or that does not reach it, is repeated with back-off without end: nothing is skipped. A
 * request of the service ends the back-off (`AppServiceBackOff`).
 *
 * Source: "Pushing events" and "Pushing ephemeral data" of the application service API.
 */
import { toClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import { type AppServiceProgress, AppServiceStore, type AppServiceTransaction } from "@greenroom/store/AppServiceStore"
import { EventLog } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import type { LogSlice, StreamedEvent } from "@greenroom/store/LogSlice"
import { receiptChanges } from "@greenroom/store/ReceiptChange"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import { comparePositions, laterPosition, parseToken, type StreamPosition } from "@greenroom/store/StreamToken"
import { makeStrippedStates } from "@greenroom/store/StrippedStates"
import { runForever } from "@greenroom/store/Supervision"
import { signalsWork } from "@greenroom/store/WorkSignals"
import { Clock, Effect, Latch, Layer, Option, Random, Result } from "effect"
import { Singleton } from "effect/cluster"
import { type EphemeralUpdate, toPresenceContent } from "../presence/EphemeralStream.ts"
import { receiptEvents } from "../presence/ReceiptEvents.ts"
import { AppServiceBackOff } from "./AppServiceBackOff.ts"
import { AppServiceClient, endpoints } from "./AppServiceClient.ts"
import { type DeviceMessages, makeAppServiceDevices, type SentEvent } from "./AppServiceDevices.ts"
import { makeAppServiceInterest } from "./AppServiceInterest.ts"
import { type AppService, AppServices } from "./AppServices.ts"

/** How many rows of a kind one transaction covers at most. */
const maxRows = 100
/**
 * The largest body, in bytes, of a transaction that covers more than one row of a kind. matrix-appservice-node refuses bodies of 5 MB,
 * and a transaction that is refused is repeated for ever.
 */
const maxBody = 4_000_000
/** After how many rows without anything for the service its position is stored. */
const maxSkipped = 10_000

const noMessages: DeviceMessages = { events: [], devices: [] }

/** The wait after the first failure and the longest one, in ms. It doubles with each failure. */
const firstWait = 1_000
const longestWait = 300_000

/** How much longer or shorter chance makes a wait. */
const jitter = 0.2

const serve = Effect.fnUntraced(function* (service: AppService) {
  const log = yield* EventLog
  const store = yield* AppServiceStore
  const client = yield* AppServiceClient
  const backOff = yield* AppServiceBackOff
  const receipts = yield* ReceiptStore
  const shortLived = yield* ShortLivedStore
  const strippedAt = yield* makeStrippedStates
  const interest = yield* makeAppServiceInterest(service)
  const devices = yield* makeAppServiceDevices(service, interest)

  // Reading

  /** Public receipts, and private ones of the users of the service. */
  const receiptsIn = Effect.fnUntraced(function* (slice: LogSlice, after: StreamPosition) {
    const changed = new Set(rowsOf(slice.rows, receiptChanges).map(({ row }) => row.roomId))
    const events: Array<SentEvent> = []
    for (const roomId of changed) {
      const roomNid = yield* interest.wantedRoom(roomId)
      if (roomNid === undefined) continue
      const read = yield* receipts.read(undefined, [roomNid], { after, upTo: slice.upTo })
      const shown = read.filter(({ type, userId }) => type === "m.read" || service.hasUser(userId))
      for (const event of receiptEvents(shown)) events.push({ ...event, room_id: roomId })
    }
    return events
  })

  const shortLivedIn = Effect.fnUntraced(function* (slice: LogSlice) {
    const now = yield* Clock.currentTimeMillis
    const events: Array<SentEvent> = []
    for (const { value } of shortLived.valuesOf(slice)) {
      const update = value as EphemeralUpdate | null
      if (update?._tag === "typing" && (yield* interest.wantedRoom(update.roomId)) !== undefined) {
        events.push({ type: "m.typing", room_id: update.roomId, content: { user_ids: update.userIds } })
      }
      if (update?._tag === "presence" && update.audience !== "self" && (yield* interest.mayKnow(update.userId))) {
        const { user_id: sender, state: _, ...content } = toPresenceContent(update.value, now)
        events.push({ type: "m.presence", sender, content })
      }
    }
    return events
  })

  /** An event as the service gets it: an invitation or a knock of one of its users with the stripped state of the room. */
  const rendered = Effect.fnUntraced(function* ({ event, position, roomNid }: StreamedEvent, now: number) {
    const isOutside =
      event.type === "m.room.member" &&
      ["invite", "knock"].includes(event.content.membership as string) &&
      service.hasUser(event.state_key!)
    const strippedState = isOutside ? yield* strippedAt({ roomNid, at: position, event }) : undefined
    return toClientServerEvent(event, { now, strippedState })
  })

  /** The content of a part of the log for the service; undefined if it has none. */
  const bodyOf = Effect.fnUntraced(function* (slice: LogSlice, after: StreamPosition) {
    const now = yield* Clock.currentTimeMillis
    const events: Array<SentEvent> = []
    if (signalsWork(slice, "aliases")) interest.aliasesChanged()
    const changes = Map.groupBy(slice.memberships, ({ position }) => position.nid)
    for (const streamed of slice.events) {
      if (yield* interest.wantsEvent(streamed, changes.get(streamed.position.nid) ?? []))
        events.push(yield* rendered(streamed, now))
    }
    interest.reached(slice.upTo)
    const ephemeral = service.receivesEphemeral
      ? [...(yield* receiptsIn(slice, after)), ...(yield* shortLivedIn(slice))]
      : []
    const messages = service.receivesEphemeral ? yield* devices.messagesIn(slice, after) : noMessages
    const news = service.receivesDeviceLists
      ? yield* devices.newsIn(slice, messages, [...events, ...ephemeral])
      : undefined
    if (events.length + ephemeral.length + messages.events.length === 0 && news === undefined) return undefined
    const unstable = {
      "de.sorunome.msc2409.ephemeral": ephemeral,
      ...(messages.events.length === 0 ? {} : { "de.sorunome.msc2409.to_device": messages.events })
    }
    const toDevice = messages.events.length === 0 ? {} : { to_device: messages.events }
    const body = { events, ...(service.receivesEphemeral ? { ephemeral, ...toDevice, ...unstable } : {}), ...news }
    return JSON.stringify(body)
  })

  /** The next part of the log with its content for the service: of fewer rows where the content would be too large. */
  const read = Effect.fnUntraced(function* (after: StreamPosition) {
    for (let rows = maxRows; ; rows = Math.ceil(rows / 4)) {
      const slice = yield* log.readAfter(after, rows)
      const body = yield* bodyOf(slice, after)
      if (body === undefined || rows === 1 || Buffer.byteLength(body) <= maxBody) return { slice, body }
      interest.begin(after)
    }
  })

  // Sending

  const send = ({ body, id }: AppServiceTransaction) =>
    client.request(service, endpoints.transaction(id), { method: "PUT", body }).pipe(
      Effect.mapError(({ reason }) => reason),
      Effect.flatMap(({ status }) =>
        status >= 200 && status < 300 ? Effect.void : Effect.fail(`it answered with status ${status}`)
      )
    )

  const sendUntilTaken = Effect.fnUntraced(function* (transaction: AppServiceTransaction, fence: number) {
    let failures = 0
    let wait = firstWait
    for (;;) {
      const sent = yield* Effect.result(send(transaction))
      if (Result.isSuccess(sent)) break
      if (failures++ === 0) {
        yield* Effect.logWarning(`The application service ${service.id} does not take transactions: ${sent.failure}`)
      }
      const isHeard = yield* backOff.wait(service.id, wait * (1 + jitter * (2 * (yield* Random.next) - 1)))
      wait = isHeard ? firstWait : Math.min(longestWait, 2 * wait)
    }
    if (failures > 0) yield* Effect.logInfo(`The application service ${service.id} takes transactions again`)
    yield* store.acknowledge(service.id, fence)
  })

  /**
   * The position from which the log is read: the stored one, or the end of its epoch here if the database was restored from an
   * earlier time.
   */
  const startOf = Effect.fnUntraced(function* ({ sentTo }: AppServiceProgress) {
    const token = parseToken(sentTo)
    const position = Option.isSome(token) ? yield* log.lastKnown(token.value) : undefined
    if (position !== undefined) return position
    yield* Effect.logWarning(
      `The application service ${service.id} is sent events from now on: its position is not in this database`
    )
    return yield* log.currentPosition
  })

  const run = Effect.gen(function* () {
    const woken = Latch.makeUnsafe(true)
    yield* log.follow(() => Effect.sync(() => woken.openUnsafe()))
    const progress = yield* store.begin(service.id)
    const { fence } = progress
    let position = yield* startOf(progress)
    interest.begin(position)
    if (progress.inFlight !== undefined) yield* sendUntilTaken(progress.inFlight, fence)
    /** The last row that was read: a token says how far the log had come, and nothing is stored behind its last row. */
    let last = position
    let skipped = 0
    while (true) {
      yield* woken.await
      woken.closeUnsafe()
      // A slice from memory ends where others may have written: this node has read further then.
      let isBehind = true
      while (isBehind) {
        const { body, slice } = yield* read(position)
        position = laterPosition(position, slice.upTo)
        last = slice.last ?? last
        isBehind = !slice.complete || comparePositions(position, log.position()) < 0
        if (body !== undefined) {
          skipped = 0
          const transaction = yield* store.prepare(service.id, fence, yield* log.tokenOf(last), body)
          yield* sendUntilTaken(transaction, fence)
        } else {
          skipped += slice.events.length
          if (skipped < maxSkipped) continue
          skipped = 0
          yield* store.skipTo(service.id, fence, yield* log.tokenOf(last))
        }
      }
    }
  })

  const untilReplaced = run.pipe(
    Effect.scoped,
    Effect.catchTag("SenderReplaced", () =>
      Effect.logInfo(`Another node sends to the application service ${service.id}`)
    ),
    // A sender that was replaced ends with its singleton; one whose singleton stays here takes over again.
    Effect.andThen(Effect.sleep("10 seconds"))
  )
  return yield* runForever(`Sending to the application service ${service.id}`, untilReplaced)
})

/** One singleton a service. A new service is sent everything that happens once the server has started. */
export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const services = (yield* AppServices).all.filter(({ url }) => url !== undefined)
    const log = yield* EventLog
    const now = yield* log.tokenOf(yield* log.currentPosition)
    yield* (yield* AppServiceStore).add(
      services.map(({ id }) => id),
      now
    )
    return Layer.mergeAll(
      Layer.empty,
      ...services.map((service) => Singleton.make(`AppService/${service.id}`, serve(service)))
    )
  })
)
