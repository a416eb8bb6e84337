/**
 * A program of several processes with a home server inside, and an actor of its own beside those of Greenroom: it counts the
 * messages of each room, on whichever node has the room.
 *
 *     DATABASE_URL=postgresql://... npx node packages/actors/examples/RoomCounter.ts 8449
 *     DATABASE_URL=postgresql://... npx node packages/actors/examples/RoomCounter.ts 8450
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { DatabaseHold } from "@greenroom/store/DatabaseHold"
import { EventLog } from "@greenroom/store/EventLog"
import { Console, Effect, Layer, Redacted, Schema } from "effect"
import { Entity, EntityId, Sharding } from "effect/cluster"
import { Rpc } from "effect/rpc"
import * as HomeServer from "../src/HomeServer.ts"

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
            Console.log(`${roomId}: ${count} messages`)
          ),
        { discard: true }
      )
    })
  })
)

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
NodeRuntime.runMain(
  Effect.scoped(
    Effect.flatMap(Layer.build(program), (services) =>
      Effect.provide(
        DatabaseHold.use(({ lost }) => lost),
        services
      )
    )
  )
)
