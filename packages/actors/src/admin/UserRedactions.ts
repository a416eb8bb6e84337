/**
 * Redacts what a user has sent: messages, and the profile in their joins. A redaction that a restart interrupted, or that could
 * not reach some rooms, begins anew, and leaves out what is redacted already.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 *
 * Source: "Redact all the events of a user" of Synapse's user administration API.
 */
import { randomBytes } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { AccountStore } from "@greenroom/store/AccountStore"
import { EventStore } from "@greenroom/store/EventStore"
import {
  type TimelinePlace,
  type UserRedaction,
  type UserRedactionOptions,
  UserRedactionStore
} from "@greenroom/store/UserRedactionStore"
import { Array as Arr, Context, Effect, Layer, Option, Result } from "effect"
import { Rooms } from "../room/Rooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { handleEach, outcomeOf, type TryAgain } from "../runtime/ItemFailure.ts"

/** How many events are redacted between two reports of the progress. */
const batch = 50
const concurrency = 8
/** How many failures are kept. */
const maxFailures = 1_000

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* UserRedactionStore
  const accounts = yield* AccountStore
  const events = yield* EventStore
  const rooms = yield* Rooms

  const request = Effect.fn("UserRedactions.request")(function* (
    userId: UserId,
    admin: UserId,
    { useAdmin, ...options }: UserRedactionOptions & { readonly useAdmin: boolean }
  ) {
    const isOurs = serverNameOf(userId) === serverName
    if (isOurs && Option.isNone(yield* accounts.find(userId))) {
      return yield* new NotFound({ error: `There is no user ${userId}` })
    }
    const [unknown] = yield* store.unknownRooms(options.rooms)
    if (unknown !== undefined) return yield* new NotFound({ error: `There is no room ${unknown}` })
    const redactId = randomBytes(8).toString("hex")
    const sender = isOurs && !useAdmin ? userId : admin
    yield* store.add({ redactId, userId, sender, requestedBy: admin, options })
    return redactId
  })

  const find = Effect.fnUntraced(function* (redactId: string) {
    return (yield* store.find(redactId)) ?? (yield* new NotFound({ error: "There is no such redaction" }))
  })

  const isChosen = (
    { afterTime, beforeTime }: UserRedactionOptions,
    { content, origin_server_ts: time, type }: Event
  ) =>
    (type !== "m.room.member" || content.membership === "join") &&
    (afterTime === undefined || (time !== undefined && time >= afterTime)) &&
    (beforeTime === undefined || (time !== undefined && time <= beforeTime))

  /** The error with which the room refuses. */
  const redact = ({ options: { reason }, redactId, sender }: UserRedaction, roomId: RoomId, eventId: EventId) =>
    Effect.map(
      outcomeOf(
        `The redaction of ${eventId}`,
        rooms.redact(
          { userId: sender, tokenId: 0, deviceId: "" },
          roomId,
          eventId,
          reason === undefined ? {} : { reason },
          redactId
        )
      ),
      (result) => (Result.isFailure(result) ? result.failure.error : undefined)
    )

  const fail = (failed: Record<string, string>, eventId: EventId, error: string) => {
    if (Object.keys(failed).length < maxFailures) failed[eventId] = error
  }

  /** The events with these IDs. One that cannot be read is a failure of its own, and does not hold up the others. */
  const read: (
    eventIds: ReadonlyArray<EventId>,
    failed: Record<string, string>
  ) => Effect.Effect<ReadonlyArray<Event>, TryAgain> = Effect.fnUntraced(function* (eventIds, failed) {
    const found = yield* outcomeOf(`Reading ${plural(eventIds.length, "event")} to redact`, events.byIds(eventIds))
    if (Result.isSuccess(found)) return found.success.map(({ event }) => event)
    if (eventIds.length > 1) return (yield* Effect.forEach(eventIds, (eventId) => read([eventId], failed))).flat()
    for (const eventId of eventIds) fail(failed, eventId, found.failure.error)
    return []
  })

  /** Fails if the room is not available. The next attempt leaves out the events that are redacted already. */
  const redactRoom = Effect.fnUntraced(function* (
    redaction: UserRedaction,
    roomId: RoomId,
    failed: Record<string, string>
  ) {
    let left = redaction.options.limit
    let place: TimelinePlace | undefined
    do {
      const found = yield* store.events(redaction, roomId, place)
      for (const eventIds of Arr.chunksOf(found.eventIds, batch)) {
        const byId = new Map((yield* read(eventIds, failed)).map((event) => [event.event_id, event]))
        const chosen = eventIds
          .flatMap((eventId) => byId.get(eventId) ?? [])
          .filter((event) => isChosen(redaction.options, event))
          .slice(0, left)
        left -= chosen.length
        yield* handleEach(
          chosen.filter(({ unsigned }) => unsigned?.redacted_because === undefined),
          ({ event_id }) =>
            Effect.map(redact(redaction, roomId, event_id), (error) => {
              if (error !== undefined) fail(failed, event_id, error)
            }),
          concurrency
        )
        yield* store.set(redaction.redactId, "active", failed)
        if (left <= 0) return
      }
      place = found.next
    } while (place !== undefined)
  })

  const run = Effect.fn("UserRedactions.run")(function* (redactId: string) {
    const redaction = yield* find(redactId)
    if (redaction.finishedAt !== undefined) return
    const { options, userId } = redaction
    const failed: Record<string, string> = {}
    yield* store.set(redactId, "active", failed)
    const chosen = options.rooms.length > 0 ? new Set(options.rooms) : yield* store.roomsOf(userId)
    yield* handleEach(chosen, (roomId) => redactRoom(redaction, roomId, failed))
    yield* store.set(redactId, "completed", failed)
  })

  return UserRedactions.of({ request, find, run })
})

/** Redacts the messages of a user in the background. */
export class UserRedactions extends Context.Service<
  UserRedactions,
  {
    /**
     * Requests the redaction of all events of a user, by the user or, for users of other servers and with `useAdmin`, by the
     * administrator; its ID. Errors: M_NOT_FOUND.
     */
    readonly request: (
      userId: UserId,
      admin: UserId,
      options: UserRedactionOptions & { readonly useAdmin: boolean }
    ) => Effect.Effect<string, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly find: (redactId: string) => Effect.Effect<UserRedaction, MatrixError>
    /**
     * Runs the noted redaction; returns when it has ended. For one caller (`AdminServices`); may be repeated, and must be after
     * `TryAgain`: some rooms were not available. Errors: M_NOT_FOUND.
     */
    readonly run: (redactId: string) => Effect.Effect<void, MatrixError | TryAgain>
  }
>()("greenroom/actors/UserRedactions") {
  static readonly layer = Layer.effect(UserRedactions, make)
}
