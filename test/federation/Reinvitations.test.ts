/** Invitations back into rooms that a server knows from before its last user left. */
import { assert, describe, it } from "@effect/vitest"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import type { RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { homeServers, isMessage, message, readsIn, type TestServer } from "./support/HomeServers.ts"

/** A user and the server of the user. */
interface Side {
  readonly server: TestServer
  readonly session: Session
}

const side = (server: TestServer, localpart: string): Effect.Effect<Side> =>
  Effect.map(server.person(localpart), (session) => ({ server, session }))

const inRooms = <A, E>({ server }: Side, use: (rooms: Rooms["Service"]) => Effect.Effect<A, E>) =>
  server.run(Effect.orDie(Rooms.use(use)))

const send = (by: Side, room: RoomId, text: string) =>
  inRooms(by, (rooms) => rooms.send(by.session, room, "m.room.message", message(text)))

const setState = (by: Side, room: RoomId, type: string, content: JsonObject) =>
  inRooms(by, (rooms) => rooms.setState(by.session, room, type, "", content))

const change = (by: Side, room: RoomId, action: "invite" | "ban" | "unban" | "kick", { session }: Side) =>
  inRooms(by, (rooms) => rooms.setMembership(by.session, room, action, session.userId))

const leave = (who: Side, room: RoomId) => inRooms(who, (rooms) => rooms.leave(who.session, room))

const join = (who: Side, room: RoomId, through?: ServerName) =>
  inRooms(who, (rooms) => rooms.join(who.session, room, {}, undefined, through === undefined ? undefined : [through]))

const isMembership =
  (room: RoomId, { session: { userId } }: Side, ...memberships: ReadonlyArray<string>) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.room.member" &&
    event.room_id === room &&
    event.state_key === userId &&
    memberships.includes(String(event.content.membership))

const sees = (viewer: Side, matches: (event: StreamedEvent) => boolean) => viewer.server.sees(viewer.session, matches)

/** The IDs of the state events by type and state key. */
const stateOf = ({ server, session }: Side, room: RoomId) =>
  server.run(
    Effect.orDie(
      Effect.map(
        RoomReader.use((reader) => reader.state(session, room)),
        (events) => new Map(events.map(({ event_id, state_key, type }) => [`${type} ${state_key}`, event_id] as const))
      )
    )
  )

/** How Bob gets out of the room and may come back while his server is not in it. */
const ways: ReadonlyArray<{
  readonly name: string
  readonly out: (room: RoomId, bob: Side, carol: Side) => Effect.Effect<unknown>
  readonly meanwhile?: (room: RoomId, bob: Side, carol: Side) => Effect.Effect<unknown>
}> = [
  { name: "leaves", out: (room, bob) => leave(bob, room) },
  { name: "is kicked", out: (room, bob, carol) => change(carol, room, "kick", bob) },
  {
    name: "is banned, and the ban is lifted meanwhile",
    out: (room, bob, carol) => change(carol, room, "ban", bob),
    meanwhile: (room, bob, carol) => change(carol, room, "unban", bob)
  }
]

describe("A user is invited back by another server than before", () => {
  for (const version of ["1", "10", "12"]) {
    for (const { meanwhile, name, out } of ways) {
      it.live(`version ${version}: the user ${name}, and the room has changed since`, () =>
        Effect.gen(function* () {
          const [red, blue, green] = (yield* homeServers(["red.test", "blue.test", "green.test"])) as [
            TestServer,
            TestServer,
            TestServer
          ]
          const alice = yield* side(red, "alice")
          const bob = yield* side(blue, "bob")
          const carol = yield* side(green, "carol")
          const dave = yield* side(red, "dave")
          const { room_id: room } = yield* inRooms(alice, (rooms) =>
            rooms.create(alice.session, { room_version: version, visibility: "private" })
          )
          for (const guest of [bob, carol]) {
            yield* change(alice, room, "invite", guest)
            yield* join(guest, room, red.serverName)
            yield* sees(alice, isMembership(room, guest, "join"))
          }
          const levels = yield* inRooms(alice, (rooms) =>
            rooms.getState(alice.session, room, "m.room.power_levels", "")
          )
          const users = { ...(levels.users as JsonObject), [carol.session.userId]: 100 }
          yield* setState(alice, room, "m.room.power_levels", { ...levels, users })
          yield* send(alice, room, "all are here")
          yield* sees(bob, isMessage("all are here"))
          yield* sees(carol, isMessage("all are here"))

          yield* out(room, bob, carol)
          for (const viewer of [alice, bob]) {
            yield* sees(viewer, isMembership(room, bob, "leave", "ban"))
          }
          yield* setState(carol, room, "m.room.topic", { topic: "without Bob" })
          yield* setState(carol, room, "m.room.history_visibility", { history_visibility: "joined" })
          yield* sees(alice, ({ type }) => type === "m.room.topic")
          yield* change(alice, room, "invite", dave)
          yield* join(dave, room)
          yield* sees(carol, isMembership(room, dave, "join"))
          yield* meanwhile?.(room, bob, carol) ?? Effect.void
          yield* leave(alice, room)
          yield* sees(carol, isMembership(room, alice, "leave"))
          yield* send(carol, room, "not for Bob")
          yield* sees(dave, isMessage("not for Bob"))
          // The server of the founder is away.
          yield* red.stop

          yield* change(carol, room, "invite", bob)
          yield* sees(bob, isMembership(room, bob, "invite"))
          yield* join(bob, room)
          yield* sees(carol, isMembership(room, bob, "join"))
          assert.deepStrictEqual(yield* stateOf(bob, room), yield* stateOf(carol, room))
          yield* send(carol, room, "welcome back")
          yield* sees(bob, isMessage("welcome back"))
          yield* send(bob, room, "thank you")
          yield* sees(carol, isMessage("thank you"))
          assert.deepStrictEqual(yield* readsIn(blue, bob.session, room), ["all are here", "welcome back", "thank you"])
        }).pipe(Effect.scoped)
      )
    }
  }
})
