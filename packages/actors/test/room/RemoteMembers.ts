/** A room of which users of two other servers are members, whose events the test makes. */
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, formatUserId, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { type EventProposal, stateKeyOf } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { generateSigningKey } from "@greenroom/room/Signing"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect, Result } from "effect"
import { Room } from "../../src/room/RoomProtocol.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import { guest } from "../TestHomeServer.ts"
import { message, timeline } from "./TestRoom.ts"

const [red, blue] = [ServerName.make("red.test"), ServerName.make("blue.test")]
export const carol = formatUserId("carol", red)
export const mallory = formatUserId("mallory", blue)
const keys = new Map([red, blue].map((server) => [server, generateSigningKey(server, "ed25519:1")]))
const serverOf = (userId: UserId) => (userId === carol ? red : blue)

/** A public room of a version, which carol and mallory of other servers have joined. */
export const remoteMembers = Effect.fnUntraced(function* (id: string) {
  const rooms = yield* Rooms
  const version = roomVersion(id)!
  const alice = guest("alice")
  const { room_id } = yield* rooms.create(alice, { room_version: id, visibility: "public" })
  const room = (yield* Room.client)(room_id)
  for (const userId of [carol, mallory]) {
    const { event } = yield* room.MakeMembership({ handshake: "join", userId, versions: [id] })
    const join = Result.getOrThrow(version.complete(event, keys.get(serverOf(userId))!, Date.now()))
    yield* room.SendMembership({ origin: serverOf(userId), handshake: "join", event: join })
  }
  const ids = (yield* timeline(alice, room_id)).map(({ event_id }) => event_id)
  const known = new Map((yield* (yield* EventStore).byIds(ids)).map(({ event }) => [event.event_id, event]))
  const events = ids.map((eventId) => known.get(eventId)!)
  const state = new Map(
    events.flatMap((event) =>
      event.state_key === undefined ? [] : [[stateKeyOf(event.type, event.state_key), event] as const]
    )
  )
  const last = events.at(-1)!

  /** An event that follows others, or the last one of the room, as the server of its sender makes it. */
  const make = (proposal: Omit<EventProposal, "room_id">, follows: ReadonlyArray<Event> = [last]): Event => {
    const prevEvents = follows.map((event) => ({ ...event, referenceHash: version.referenceHash(event) }))
    const place = {
      prevEvents,
      state: (type: string, key: string) => state.get(stateKeyOf(type, key)),
      now: Date.now()
    }
    return version.build({ ...proposal, room_id }, place, keys.get(serverOf(proposal.sender))!)
  }

  /** Alice gives users of other servers power levels. Returns the event. */
  const grant = Effect.fnUntraced(function* (users: { readonly [userId: string]: number }) {
    const key = stateKeyOf("m.room.power_levels", "")
    const { content } = state.get(key)!
    const levels = { ...content, users: { ...(content.users as object), ...users } }
    const { event_id } = yield* rooms.setState(alice, room_id, "m.room.power_levels", "", levels)
    const { event } = (yield* (yield* EventStore).byIds([event_id]))[0]!
    state.set(key, event)
    return event
  })

  /** A message of this server. */
  const say = Effect.gen(function* () {
    const { event_id } = yield* rooms.send(alice, room_id, "m.room.message", message("next"))
    return (yield* (yield* EventStore).byIds([event_id]))[0]!.event
  })

  return {
    room_id,
    make,
    grant,
    say,
    message: make({ type: "m.room.message", sender: carol, content: message("secret") }),
    redaction: (sender: UserId, redacts: EventId, follows?: ReadonlyArray<Event>) =>
      make({ type: "m.room.redaction", sender, content: {}, redacts }, follows),
    receive: (event: Event) =>
      Effect.map(room.Receive({ origin: serverOf(event.sender), events: [event] }), ([outcome]) => outcome!),
    /** The same for several events of one server. */
    receiveAll: (events: ReadonlyArray<Event>) => room.Receive({ origin: serverOf(events[0]!.sender), events }),
    read: (eventId: EventId) => rooms.getEvent(alice, eventId),
    shown: Effect.map(timeline(alice, room_id), (shown) => shown.map(({ event_id }) => event_id)),
    /** The predecessors of the next event of this server. */
    followed: Effect.map(say, ({ prev_events }) => prev_events)
  }
})
