/**
 * A bridge between two rooms, with a whole home server inside the program and no HTTP: what people say in one room, the bridge says in the
 * other.
 *
 *     npx node packages/actors/examples/RoomBridge.ts [directory]
 *
 * Type `north: Hello` or `south: Hello`: Nora says it in the room north, Sam in the room south. The program writes what the other one
 * reads. With OTLP configured, each copy is a span with the ID of the event that it copies.
 */
import { createInterface } from "node:readline"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Accounts, Events, HomeServer, Rooms, type Session } from "@greenroom/actors"
import type { ClientEvent } from "@greenroom/protocol/Event"
import { RoomAlias, type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Console, Effect, Fiber, Redacted, Schema, Stream } from "effect"

/** The bridge is not a member of a room any more, or may not write there. */
class RoomClosed extends Schema.TaggedError<RoomClosed>()("RoomClosed", {
  room: Schema.String,
  error: Schema.String
}) {}

/** Logs in, and registers the first time. */
const logIn = Effect.fn("RoomBridge.logIn")(function* (localpart: string) {
  const accounts = yield* Accounts
  const password = Redacted.make(`the password of ${localpart}`)
  const credentials = yield* accounts
    .login({ user: localpart, password })
    .pipe(Effect.catchTag("M_FORBIDDEN", () => accounts.register({ localpart, password })))
  return yield* accounts.authenticate(credentials.access_token)
})

/** The room of this name, which `creator` makes the first time and `others` join. */
const roomOf = Effect.fn("RoomBridge.roomOf")(function* (
  name: string,
  creator: Session,
  others: ReadonlyArray<Session>
) {
  const rooms = yield* Rooms
  const roomId = yield* rooms.resolveAlias(RoomAlias.make(`#${name}:localhost`)).pipe(
    Effect.map(({ room_id }) => room_id),
    Effect.catchTag("M_NOT_FOUND", () =>
      Effect.map(rooms.create(creator, { visibility: "public", room_alias_name: name, name }), ({ room_id }) => room_id)
    )
  )
  yield* Effect.forEach(others, (other) => rooms.join(other, roomId), { discard: true })
  return roomId
})

/** The ID of the event is the transaction ID of the copy, so a copy that is tried again is sent once. */
const copy = Effect.fn("RoomBridge.copy")(function* (bridge: Session, event: ClientEvent, to: RoomId) {
  yield* Effect.annotateCurrentSpan({ "matrix.event_id": event.event_id })
  const rooms = yield* Rooms
  const body = `${event.sender}: ${String(event.content.body)}`
  yield* rooms.send(bridge, to, "m.room.message", { ...event.content, body }, `copy ${event.event_id}`).pipe(
    Effect.retry({ times: 5, while: (error) => error._tag === "M_LIMIT_EXCEEDED" }),
    Effect.catchTag("M_FORBIDDEN", ({ error }) => Effect.fail(new RoomClosed({ room: to, error })))
  )
})

/** Messages that the user may see from now on, without the user's own. */
const messagesFor = Effect.fnUntraced(function* (user: Session) {
  const events = yield* Events
  const { end } = yield* events.initialSync(user, 0)
  return events.stream(user, end).pipe(
    Stream.filter((event): event is ClientEvent => event.type === "m.room.message" && "sender" in event),
    Stream.filter(({ sender }) => sender !== user.userId)
  )
})

/** Copies the messages of each room into the other one. */
const runBridge = Effect.fn("RoomBridge.run")(function* (bridge: Session, north: RoomId, south: RoomId) {
  const messages = yield* messagesFor(bridge)
  const other = new Map([
    [north, south],
    [south, north]
  ])
  return Stream.runForEach(messages, (event) => {
    const to = other.get(event.room_id)
    return to === undefined ? Effect.void : copy(bridge, event, to)
  })
})

const lines = Stream.suspend(() => Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String))

const program = Effect.gen(function* () {
  const rooms = yield* Rooms
  const [bridge, nora, sam] = [yield* logIn("bridge"), yield* logIn("nora"), yield* logIn("sam")]
  const north = yield* roomOf("north", nora, [bridge])
  const south = yield* roomOf("south", sam, [bridge])
  const closed = yield* Effect.forkScoped(yield* runBridge(bridge, north, south))
  const read = Stream.merge(yield* messagesFor(nora), yield* messagesFor(sam))
  const said = Stream.mapEffect(lines, (line) => {
    const [, where, body = ""] = /^(north|south): *(.*)$/.exec(line) ?? []
    const content = { msgtype: "m.text", body }
    if (where === undefined) return Effect.succeed(false)
    const sent =
      where === "north"
        ? rooms.send(nora, north, "m.room.message", content)
        : rooms.send(sam, south, "m.room.message", content)
    return Effect.as(sent, true)
  })
  yield* Console.log("Say something, such as `north: Hello`:")
  yield* said.pipe(
    Stream.filter((isSaid) => isSaid),
    Stream.zip(read),
    Stream.runForEach(([, { content, room_id }]) =>
      Console.log(`${room_id === north ? "north" : "south"} reads ${String(content.body)}`)
    ),
    Effect.raceFirst(Effect.flatMap(Fiber.join(closed), () => Effect.never))
  )
})

const dataDir = process.argv[2] ?? "./data/room-bridge"

NodeRuntime.runMain(
  program.pipe(
    Effect.catchTag("RoomClosed", ({ error, room }) => Console.error(`The bridge may not write to ${room}: ${error}`)),
    Effect.scoped,
    Effect.provide(HomeServer.layer({ serverName: ServerName.make("localhost"), dataDir }))
  )
)
