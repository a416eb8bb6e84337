/**
 * No acknowledged event is lost or duplicated when the gateway is killed repeatedly while many clients send, and started again with the
 * same data. Clients repeat unacknowledged requests with the same transaction IDs, as after any broken connection.
 */
import { assert, describe, it } from "@effect/vitest"
import { type ClientError, GreenroomClient, type GreenroomClientShape } from "@greenroom/client/GreenroomClient"
import * as GreenroomSocket from "@greenroom/client/GreenroomSocket"
import type { StreamedEvent } from "@greenroom/protocol/api/Answers"
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { Console, Deferred, Effect, Fiber, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { randomNumbers, seed } from "../support/Seed.ts"

const senders = 8
const rooms = 3
const kills = 5

/** How many requests begin or are answered between two kills. */
const minimumBetween = 30
const maximumBetween = 400

interface Message {
  readonly room: RoomId
  readonly eventId: EventId
  readonly body: string
}

/** Counts requests and acknowledgements, and wakes the fiber that waits for a count. */
const makeProgress = () => {
  let count = 0
  let waiting: { readonly target: number; readonly deferred: Deferred.Deferred<void> } | undefined
  return {
    step: () => {
      count++
      if (waiting !== undefined && count >= waiting.target) Deferred.doneUnsafe(waiting.deferred, Effect.void)
    },
    /** Waits for a number of further steps. */
    after: (steps: number) =>
      Effect.suspend(() => {
        waiting = { target: count + steps, deferred: Deferred.makeUnsafe() }
        return Deferred.await(waiting.deferred)
      })
  }
}

const isMessage = (event: StreamedEvent): event is ClientEvent => event.type === "m.room.message"

const toMessage = (event: ClientEvent): Message => ({
  room: event.room_id,
  eventId: event.event_id,
  body: String(event.content.body)
})

const lastMessage = "The last message"

/** The messages of a stream, up to the last message of every room. */
const follow = (events: Stream.Stream<StreamedEvent, ClientError>) =>
  Effect.suspend(() => {
    const seen: Array<Message> = []
    let ended = 0
    return events.pipe(
      Stream.filter(isMessage),
      Stream.map(toMessage),
      Stream.tap((message) => Effect.sync(() => seen.push(message))),
      Stream.takeUntil(({ body }) => body === lastMessage && ++ended === rooms),
      Stream.runDrain,
      Effect.as(seen)
    )
  })

/** All messages of a room, page by page. */
const readAll = (
  client: GreenroomClientShape,
  room: RoomId,
  from = "START"
): Effect.Effect<Array<Message>, ClientError> =>
  Effect.flatMap(client.messages(room, { from, dir: "f", limit: 200 }), ({ chunk, end }) =>
    chunk.length === 0
      ? Effect.succeed([])
      : Effect.map(readAll(client, room, end), (rest) => [...chunk.filter(isMessage).map(toMessage), ...rest])
  )

const inRoom = (messages: ReadonlyArray<Message>, room: RoomId) =>
  messages.filter((message) => message.room === room).map(({ body }) => body)

const setUp = Effect.fnUntraced(function* (url: string) {
  const anonymous = yield* GreenroomClient.make({ baseUrl: url, retryTimeout: "2 minutes" })
  const people = yield* Effect.forEach(
    Array.from({ length: senders }, (_, index) => `sender${index}`),
    (user) => Effect.flatMap(anonymous.register({ user, password: "secret" }), anonymous.as)
  )
  const [owner, ...others] = people as [GreenroomClientShape, ...Array<GreenroomClientShape>]
  const roomIds = yield* Effect.forEach(Array.from({ length: rooms }), () =>
    Effect.map(owner.createRoom({ visibility: "public" }), ({ room_id }) => room_id)
  )
  for (const room of roomIds) yield* Effect.forEach(others, (person) => person.join(room), { concurrency: 4 })
  return { owner, people, roomIds }
})

describe("Kill9", () => {
  it.live(
    "every acknowledged message is stored once, every token stays valid, and followers receive each message once and in order",
    () =>
      Effect.gen(function* () {
        yield* Console.log(`Kill9: seed ${seed}`)
        const random = randomNumbers(seed)
        const dataDir = yield* GatewayProcess.temporaryDirectory
        let gateway = yield* GatewayProcess.start({ dataDir })
        const { owner, people, roomIds } = yield* setUp(gateway.url)
        const begin = yield* owner.now
        const byPoll = yield* Effect.forkChild(follow(owner.events({ from: begin, timeout: "10 seconds" })))
        const socket = yield* GreenroomSocket.connect(people[1]!, { from: begin, subprotocol: "m.msgpack" })
        const bySocket = yield* Effect.forkChild(follow(socket.events))

        const acknowledged: Array<Message> = []
        const progress = makeProgress()
        let finished = false
        const sendUntilFinished = (person: GreenroomClientShape, index: number) =>
          Effect.gen(function* () {
            for (let count = 0; !finished; count++) {
              const room = roomIds[Math.floor(random() * roomIds.length)]!
              const body = `${index}: ${count}`
              progress.step()
              const { event_id: eventId } = yield* person.sendText(room, body)
              acknowledged.push({ room, eventId, body })
              progress.step()
            }
          })
        const sending = yield* Effect.forkChild(Effect.forEach(people, sendUntilFinished, { concurrency: "unbounded" }))

        for (let kill = 0; kill < kills; kill++) {
          yield* progress.after(minimumBetween + Math.floor(random() * (maximumBetween - minimumBetween)))
          yield* gateway.kill
          gateway = yield* GatewayProcess.start({ dataDir, port: gateway.port })
        }
        yield* progress.after(minimumBetween)
        finished = true
        yield* Fiber.join(sending)
        for (const room of roomIds) yield* owner.sendText(room, lastMessage)

        const seenByPoll = yield* Fiber.join(byPoll)
        const seenBySocket = yield* Fiber.join(bySocket)
        yield* Console.log(`Kill9: ${acknowledged.length} messages were acknowledged over ${kills} kills`)
        let count = 0
        for (const roomId of roomIds) {
          const stored = yield* readAll(owner, roomId)
          assert.strictEqual(new Set(stored.map(({ body }) => body)).size, stored.length, "no message is stored twice")
          const ids = new Map(stored.map(({ body, eventId }) => [body, eventId]))
          for (const { body, eventId, room } of acknowledged) {
            if (room === roomId) assert.strictEqual(ids.get(body), eventId, `${body} has the acknowledged event ID`)
          }
          count += stored.length
          const bodies = stored.map(({ body }) => body)
          assert.deepStrictEqual(inRoom(seenByPoll, roomId), bodies, "the long poll received all messages in order")
          assert.deepStrictEqual(inRoom(seenBySocket, roomId), bodies, "the socket received all messages in order")
        }
        assert.strictEqual(count, acknowledged.length + rooms, "every stored message was acknowledged")
        for (const person of people) assert.strictEqual((yield* person.initialSync(0)).rooms.length, rooms)
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    300_000
  )
})
