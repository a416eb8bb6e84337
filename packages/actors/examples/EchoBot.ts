/**
 * A bot that answers in a room, with a whole home server inside the program and no HTTP:
 *
 *     npx node packages/actors/examples/EchoBot.ts [directory]
 *
 * Type a line and the bot answers it. The conversation is kept in the directory (default `./data/echo-bot`), so the bot knows
 * at the next start how many messages there have been.
 */
import { createInterface } from "node:readline"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Accounts, type EventStream, Events, HomeServer, Rooms, type Session } from "@greenroom/actors"
import { RoomAlias, type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Console, Effect, Redacted, Stream } from "effect"

const alias = RoomAlias.make("#echo:localhost")

/** Logs in, and registers the first time. */
const logIn = Effect.fnUntraced(function* (localpart: string) {
  const accounts = yield* Accounts
  const password = Redacted.make(`the password of ${localpart}`)
  const credentials = yield* accounts
    .login({ user: localpart, password })
    .pipe(Effect.catchTag("M_FORBIDDEN", () => accounts.register({ localpart, password })))
  return yield* accounts.authenticate(credentials.access_token)
})

/** The room of the bot, which it makes the first time. */
const ownRoom = Effect.fnUntraced(function* (bot: Session) {
  const rooms = yield* Rooms
  return yield* rooms.resolveAlias(alias).pipe(
    Effect.map(({ room_id }) => room_id),
    Effect.catchTag("M_NOT_FOUND", () =>
      Effect.map(
        rooms.create(bot, { visibility: "public", room_alias_name: "echo", name: "Echo" }),
        ({ room_id }) => room_id
      )
    )
  )
})

const textIn = (event: EventStream.StreamedEvent, roomId: RoomId): string | undefined =>
  event.type === "m.room.message" && event.room_id === roomId && typeof event.content.body === "string"
    ? event.content.body
    : undefined

/** Answers whatever others say in the room, from now on. */
const answer = Effect.fnUntraced(function* (bot: Session, roomId: RoomId) {
  const events = yield* Events
  const rooms = yield* Rooms
  const { end } = yield* events.initialSync(bot, 0)
  return events.stream(bot, end).pipe(
    Stream.runForEach((event) => {
      const text = textIn(event, roomId)
      return text === undefined || !("sender" in event) || event.sender === bot.userId
        ? Effect.void
        : rooms.send(bot, roomId, "m.room.message", { msgtype: "m.text", body: `You said: ${text}` })
    })
  )
})

const lines = Stream.suspend(() => Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String))

const program = Effect.gen(function* () {
  const events = yield* Events
  const rooms = yield* Rooms
  const bot = yield* logIn("echo")
  const roomId = yield* ownRoom(bot)
  yield* Effect.forkScoped(yield* answer(bot, roomId))

  const you = yield* logIn("you")
  yield* rooms.join(you, alias)
  const { chunk } = yield* rooms.messages(you, roomId, { limit: 1000 })
  const said = chunk.filter(({ type }) => type === "m.room.message").length
  yield* Console.log(`Messages in ${alias} so far: ${said}. Say something:`)
  const replies = events.stream(you, (yield* events.initialSync(you, 0)).end).pipe(
    Stream.filter((event) => "sender" in event && event.sender === bot.userId),
    Stream.map((event) => textIn(event, roomId)),
    Stream.filter((text) => text !== undefined)
  )
  yield* lines.pipe(
    Stream.mapEffect((body) => rooms.send(you, roomId, "m.room.message", { msgtype: "m.text", body })),
    Stream.zip(replies),
    Stream.runForEach(([, reply]) => Console.log(reply))
  )
})

const dataDir = process.argv[2] ?? "./data/echo-bot"

NodeRuntime.runMain(
  program.pipe(Effect.scoped, Effect.provide(HomeServer.layer({ serverName: ServerName.make("localhost"), dataDir })))
)
