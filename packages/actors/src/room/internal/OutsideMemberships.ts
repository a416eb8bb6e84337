/**
 * Memberships of our users in rooms that this server does not take part in: invitations by users of other servers, and their
 * retraction.
 *
 * Source: "Inviting to a room" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { type ClientTransaction, EventStatus } from "@greenroom/store/EventLog"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Option } from "effect"
import { requireAdmitted } from "../ServerAcl.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** The event with the room's state for a user outside the room. */
export const withShown = (event: Event, shown: ReadonlyArray<JsonObject>): Event =>
  shown.length === 0 ? event : { ...event, unsigned: { ...event.unsigned, invite_room_state: shown } }

export const makeOutsideMemberships = Effect.fnUntraced(function* (writer: RoomWriter, intake: RoomIntake) {
  const { forget, load, log, nextNid, roomId, rooms, signingKey, withNids } = writer
  const { graph, intakeLock } = intake
  const unfinished = yield* UnfinishedMembershipStore

  /**
   * The room is known here from now on, with this version: until this server takes part in it, another server's word for
   * the version counts no more than the next one's.
   */
  const prepare = (versionId: string) =>
    Effect.flatMap(rooms.prepare(roomId, versionId, "private"), (isChanged) => (isChanged ? forget : Effect.void))

  /** A membership of one of our users in a room that this server does not take part in, with the answer to who asked for it. */
  const logOutside = (
    room: RoomState,
    event: Event,
    userId: UserId,
    transactions: ReadonlyArray<ClientTransaction> = []
  ) => {
    const step = room.beginStep()
    const nid = nextNid()
    room.log(step, { event, nid, status: EventStatus.timeline, before: undefined, after: undefined })
    step.memberships.push({
      userId,
      membership: String(event.content.membership),
      sender: event.sender,
      eventNid: nid,
      causedBy: nid,
      local: true
    })
    return log.append(room.commit(step, { transactions }))
  }

  // On ReceiveInvite: one of our users is invited

  const receiveInvite = (
    origin: ServerName,
    event: Event,
    versionId: string,
    shown: ReadonlyArray<JsonObject>
  ): Effect.Effect<Event, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const userId = event.state_key as UserId
        const version = roomVersion(versionId)
        if (
          version === undefined ||
          event.type !== "m.room.member" ||
          event.content.membership !== "invite" ||
          event.origin !== origin ||
          event.room_id !== roomId
        ) {
          return yield* new InvalidParam({ error: `The PDU is not an invite by a user of ${origin}` })
        }
        const signed = version.sign(event, yield* signingKey)
        yield* prepare(versionId)
        const room = yield* load
        if (room.isOurs) {
          yield* requireAdmitted(room.lookup, origin)
          // In a room that we are in, the invite comes as an event like any other.
          return signed
        }
        if ((yield* graph.known(room, [event.event_id])).has(event.event_id)) return signed
        // A ban in our state may have been lifted since: a server without members in the room is not sent its events.
        yield* yield* withNids(1, () => logOutside(room, withShown(signed, shown), userId))
        return signed
      })
    )

  // On ReceiveRetraction: an invitation of one of our users is taken back, or their knock is refused

  /**
   * The rules cannot be checked from outside the room: only the inviter takes an invitation back, as in Synapse. A knock is
   * refused by the server that took it.
   */
  const receiveRetraction = (event: Event): Effect.Effect<void, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const userId = event.state_key as UserId
        const known = yield* rooms.membership(userId, roomId)
        if (Option.isNone(known) || !["invite", "knock"].includes(known.value.membership)) {
          return yield* new NotFound({ error: `${userId} has no invitation to ${roomId}` })
        }
        const isKnock = known.value.membership === "knock"
        const maySpeak = isKnock
          ? (yield* unfinished.find(roomId, userId))?.servers.includes(event.origin) === true
          : event.sender === known.value.sender
        if (!maySpeak) return yield* new Forbidden({ error: `${event.sender} has not invited ${userId}` })
        const room = yield* load
        if (room.isOurs || (yield* graph.known(room, [event.event_id])).has(event.event_id)) return
        yield* yield* withNids(1, () => logOutside(room, event, userId))
        yield* unfinished.remove(roomId, userId)
      })
    )

  return { logOutside, prepare, receiveInvite, receiveRetraction }
})

export type OutsideMemberships = Effect.Success<ReturnType<typeof makeOutsideMemberships>>
