/**
 * A program of several processes with a home server inside, and an actor of its own beside those of Greenroom: it counts the
 * messages of each room, on whichever node has the room. Each line that is typed is a message in the room #counted.
 *
 *     DATABASE_URL=postgresql://... npx node packages/actors/examples/RoomCounter.ts 8449
 *     DATABASE_URL=postgresql://... npx node packages/actors/examples/RoomCounter.ts 8450
 */
import { createInterface } from "node:readline"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Accounts, HomeServer, Rooms } from "@greenroom/actors"
import { RoomAlias, ServerName } from "@greenroom/protocol/Identifiers"
import { DatabaseHold } from "@greenroom/store/DatabaseHold"
import { EventLog } from "@greenroom/store/EventLog"
import { Console, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Entity, EntityId, Sharding } from "effect/cluster"
import { Rpc } from "effect/rpc"

const Add = Rpc.make("Add", { payload: { messages: Schema.Number }, success: Schema.Number })

/** The key is the room ID. */
const Counter = Entity.make("RoomCounter", [Add])

/** Counts in memory: from zero again where the actor starts anew, at another node too. */
const counters = Counter.toLayer(
  Effect.sync(() => {
    let count = 0
    return Counter.of({
      Add: ({ payload }) =>
        Effect.sync(() => {
          count += payload.messages
          return count
        })
    })
  })
)

/** Every node reads the whole log; each passes on what belongs to the rooms that it holds. */
const countMessages = Layer.effectDiscard(
  Effect.gen(function* () {
    const log = yield* EventLog
    const sharding = yield* Sharding.Sharding
    const counter = yield* Counter.client
    const isHere = (roomId: string) => sharding.hasShardId(sharding.getShardId(EntityId.make(roomId), "default"))
    yield* log.follow(({ events }) => {
      const messages = events.filter(({ event }) => event.type === "m.room.message" && isHere(event.room_id))
      const byRoom = Map.groupBy(messages, ({ event }) => event.room_id)
      return Effect.forEach(
        byRoom,
        ([roomId, added]) =>
          Effect.flatMap(Effect.orDie(counter(roomId).Add({ messages: added.length })), (count) =>
            Console.log(`${roomId}: ${count} ${count === 1 ? "message" : "messages"}`)
          ),
        { discard: true }
      )
    })
  })
)

const lines = Stream.suspend(() => Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String))

/** Sends each line to the room as a user of this node, who registers the first time. */
const talk = Effect.fn("RoomCounter.talk")(function* (localpart: string) {
  const accounts = yield* Accounts
  const rooms = yield* Rooms
  const password = Redacted.make(`the password of ${localpart}`)
  const credentials = yield* accounts
    .login({ user: localpart, password })
    .pipe(Effect.catchTag("M_FORBIDDEN", () => accounts.register({ localpart, password })))
  const user = yield* accounts.authenticate(credentials.access_token)
  const alias = RoomAlias.make("#counted:localhost")
  const join = rooms.join(user, alias)
  // If two nodes make the room at once, one of them finds that the other was faster.
  const make = rooms.create(user, { visibility: "public", room_alias_name: "counted" })
  const { room_id } = yield* join.pipe(
    Effect.catchTag("M_NOT_FOUND", () => make.pipe(Effect.catchTag("M_ROOM_IN_USE", () => join)))
  )
  yield* Console.log(`${localpart} is in ${room_id}`)
  yield* Stream.runForEach(lines, (body) => rooms.send(user, room_id, "m.room.message", { msgtype: "m.text", body }))
})

const port = Number(process.argv[2] ?? 8449)

const homeServer = HomeServer.clusterLayer(
  {
    serverName: ServerName.make("localhost"),
    dataDir: "./data/room-counter",
    databaseUrl: Redacted.make(process.env.DATABASE_URL ?? "")
  },
  { host: "127.0.0.1", port }
)

const program = countMessages.pipe(Layer.provide(counters), Layer.provideMerge(homeServer))

// The process ends where another one takes the database.
const run = Effect.gen(function* () {
  yield* Effect.forkScoped(talk(`node-${port}`))
  yield* DatabaseHold.use(({ lost }) => lost)
})

NodeRuntime.runMain(Effect.scoped(Effect.flatMap(Layer.build(program), (services) => Effect.provide(run, services))))
