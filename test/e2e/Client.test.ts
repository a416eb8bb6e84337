/** The typed client against the real program. */
import { assert, layer } from "@effect/vitest"
import { ConnectionError } from "@greenroom/client/ConnectionError"
import { GreenroomClient, type GreenroomClientShape } from "@greenroom/client/GreenroomClient"
import * as GreenroomSocket from "@greenroom/client/GreenroomSocket"
import type { StreamedEvent } from "@greenroom/protocol/api/Answers"
import { laterClientPrefix } from "@greenroom/protocol/api/ClientApi"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { BadPagination, Forbidden, NotFound, UnknownToken, UserInUse } from "@greenroom/protocol/MatrixError"
import { Deferred, Effect, Fiber, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { restartable, Stage } from "../support/Scene.ts"

let users = 0

/** A client of the stage's gateway, as a new user. */
const newcomer = Effect.fnUntraced(function* (name: string) {
  const { gateway } = yield* Stage
  const anonymous = yield* GreenroomClient.make({ baseUrl: `${gateway.url}/`, retryTimeout: "1 minute" })
  const credentials = yield* anonymous.register({ user: `${name}${++users}`, password: Redacted.make("secret") })
  return { client: yield* anonymous.as(credentials), userId: credentials.user_id }
})

const bodyOf = (event: StreamedEvent): unknown => (event.type === "m.room.message" ? event.content.body : undefined)

const messages = (events: Stream.Stream<StreamedEvent, GreenroomSocketError>, count: number) =>
  events.pipe(
    Stream.map(bodyOf),
    Stream.filter((body) => body !== undefined),
    Stream.take(count),
    Stream.runCollect
  )
type GreenroomSocketError = Stream.Error<GreenroomSocket.GreenroomSocket["events"]>

const roomOf = Effect.fnUntraced(function* (
  owner: GreenroomClientShape,
  ...others: ReadonlyArray<GreenroomClientShape>
) {
  const { room_id } = yield* owner.createRoom({ visibility: "public" })
  for (const other of others) yield* other.join(room_id)
  return room_id
})

layer(Stage.layer(), { excludeTestServices: true })("Client", (it) => {
  it.effect("a client registers, logs in, sends and reads; errors have the tags of their errcodes", () =>
    Effect.gen(function* () {
      const { gateway } = yield* Stage
      const anonymous = yield* GreenroomClient.make({ baseUrl: gateway.url, prefix: laterClientPrefix })
      const credentials = yield* anonymous.register({ user: "carla", password: "secret", deviceName: "Test" })
      assert.instanceOf(yield* Effect.flip(anonymous.register({ user: "carla", password: "secret" })), UserInUse)
      assert.instanceOf(yield* Effect.flip(anonymous.login({ user: "carla", password: "wrong" })), Forbidden)
      const carla = yield* anonymous.as(yield* anonymous.login({ user: "carla", password: "secret" }))
      const { room_alias, room_id } = yield* carla.createRoom({ room_alias_name: "carlas", topic: "Words" })
      const { event_id } = yield* carla.send(room_id, "m.room.message", { msgtype: "m.text", body: "Hello" })
      assert.deepStrictEqual((yield* carla.getEvent(event_id)).content, { msgtype: "m.text", body: "Hello" })
      assert.deepStrictEqual(yield* carla.getState(room_id, "m.room.topic"), { topic: "Words" })
      yield* carla.setState(room_id, "m.room.name", { name: "Ours" })
      assert.strictEqual((yield* carla.resolveAlias(room_alias!)).room_id, room_id)
      const nowhere = "$nothing:green.test" as EventId
      assert.instanceOf(yield* Effect.flip(carla.getEvent(nowhere)), NotFound)
      yield* carla.setDisplayName(credentials.user_id, "Carla")
      assert.deepStrictEqual(yield* carla.getProfile(credentials.user_id), { displayname: "Carla" })
      const page = yield* carla.messages(room_id, { dir: "f", from: "START", limit: 100 })
      assert.include(
        page.chunk.map(({ event_id }) => event_id),
        event_id
      )
      assert.strictEqual((yield* carla.health).ok, true)
      yield* carla.logout
      assert.instanceOf(yield* Effect.flip(carla.initialSync()), UnknownToken)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a request that is repeated with the caller's transaction ID has one effect", () =>
    Effect.gen(function* () {
      const { client } = yield* newcomer("once")
      const room = yield* roomOf(client)
      const first = yield* client.sendText(room, "Once", { txnId: "mine" })
      assert.deepStrictEqual(yield* client.sendText(room, "Once", { txnId: "mine" }), first)
      assert.notDeepEqual(yield* client.sendText(room, "Once"), first)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("the event stream of long polls has every message once, in order, and resumes from a token", () =>
    Effect.gen(function* () {
      const alice = yield* newcomer("alice")
      const bob = yield* newcomer("bob")
      const room = yield* roomOf(alice.client, bob.client)
      const from = yield* bob.client.now
      const following = yield* Effect.forkChild(messages(bob.client.events({ from, limit: 3 }), 20))
      const sent = Array.from({ length: 20 }, (_, index) => `Message ${index}`)
      for (const body of sent) yield* alice.client.sendText(room, body)
      assert.deepStrictEqual(yield* Fiber.join(following), sent)
      const part = yield* bob.client.chunks({ from, limit: 5 }).pipe(Stream.take(2), Stream.runCollect)
      const rest = yield* messages(
        bob.client.events({ from: part[1]!.end }),
        20 - part.flatMap(({ chunk }) => chunk.filter(bodyOf)).length
      )
      assert.strictEqual(rest.at(-1), "Message 19")
      const failed = yield* Effect.flip(Stream.runDrain(bob.client.events({ from: "nonsense" })))
      assert.instanceOf(failed, BadPagination)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  for (const subprotocol of ["m.json", "m.msgpack"] as const) {
    it.effect(`a socket makes requests and receives events (${subprotocol})`, () =>
      Effect.gen(function* () {
        const alice = yield* newcomer("alice")
        const bob = yield* newcomer("bob")
        const socket = yield* GreenroomSocket.connect(alice.client, { subprotocol })
        const receiver = yield* GreenroomSocket.connect(bob.client, { subprotocol })
        const { room_id } = yield* socket.request("createRoom", { visibility: "public", name: "By socket" })
        yield* receiver.request("join", { room_id })
        const received = yield* Effect.forkChild(messages(receiver.events, 10))
        const sent = Array.from({ length: 10 }, (_, index) => `Message ${index}`)
        for (const body of sent) {
          yield* socket.request("send", { room_id, type: "m.room.message", content: { msgtype: "m.text", body } })
        }
        assert.deepStrictEqual(yield* Fiber.join(received), sent)
        const page = yield* receiver.request("messages", { room_id, limit: 3 })
        assert.deepStrictEqual(page.chunk.map(bodyOf), ["Message 9", "Message 8", "Message 7"])
        assert.deepStrictEqual(yield* receiver.request("ping", {}), {})
        const refused = yield* Effect.flip(receiver.request("kick", { room_id, user_id: alice.userId }))
        assert.instanceOf(refused, Forbidden)
        yield* bob.client.logout
        assert.instanceOf(yield* Effect.flip(Stream.runDrain(receiver.events)), UnknownToken)
        assert.instanceOf(yield* Effect.flip(receiver.request("ping", {})), UnknownToken)
      }).pipe(Effect.provide(FetchHttpClient.layer))
    )
  }

  it.effect("a slow reader of a socket misses no event", () =>
    Effect.gen(function* () {
      const alice = yield* newcomer("alice")
      const room = yield* roomOf(alice.client)
      const socket = yield* GreenroomSocket.connect(alice.client)
      const sent = Array.from({ length: 600 }, (_, index) => `Message ${index}`)
      for (const body of sent) {
        yield* socket.request("send", {
          room_id: room,
          type: "m.room.message",
          content: { msgtype: "m.text", body }
        })
      }
      assert.deepStrictEqual(yield* messages(socket.events, sent.length), sent)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a socket with an unknown token or position gets an error", () =>
    Effect.gen(function* () {
      const alice = yield* newcomer("alice")
      const socket = yield* GreenroomSocket.connect(alice.client, { from: "nonsense" })
      assert.instanceOf(yield* Effect.flip(Stream.runDrain(socket.events)), BadPagination)
      const unknown = yield* alice.client.as({ access_token: "gr_nobody" })
      assert.instanceOf(yield* Effect.flip(Effect.scoped(GreenroomSocket.connect(unknown))), UnknownToken)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("requests to an unreachable server fail with a ConnectionError, which shows no token", () =>
    Effect.gen(function* () {
      const unreachable = yield* GreenroomClient.make({
        baseUrl: "http://127.0.0.1:9",
        accessToken: Redacted.make("hush"),
        retryTimeout: "100 millis"
      })
      const error = yield* Effect.flip(unreachable.sendText("!room:green.test" as RoomId, "Hello"))
      assert.instanceOf(error, ConnectionError)
      assert.isTrue(error._tag === "ConnectionError" && error.transient)
      assert.notInclude(JSON.stringify(error), "hush")
      const socket = yield* Effect.flip(Effect.scoped(GreenroomSocket.connect(unreachable)))
      assert.instanceOf(socket, ConnectionError)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a rate-limited client waits as long as the server says, and then continues", () =>
    Effect.gen(function* () {
      const start = yield* restartable({ GREENROOM_RATE_LIMITS_SENDS: "10/100ms" })
      const { gateway } = yield* start()
      const anonymous = yield* GreenroomClient.make({ baseUrl: gateway.url })
      const client = yield* anonymous.as(yield* anonymous.register({ user: "hasty", password: "secret" }))
      const room = yield* roomOf(client)
      yield* Effect.forEach(Array.from({ length: 40 }), (_, index) => client.sendText(room, `Message ${index}`), {
        concurrency: "unbounded"
      })
      const socket = yield* GreenroomSocket.connect(client)
      const content = { msgtype: "m.text", body: "By socket" }
      yield* Effect.forEach(
        Array.from({ length: 40 }),
        () => socket.request("send", { room_id: room, type: "m.room.message", content }),
        { concurrency: "unbounded" }
      )
      assert.lengthOf((yield* client.messages(room, { limit: 80 })).chunk.filter(bodyOf), 80)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect(
    "requests, the event stream and the socket survive a restart of the server",
    () =>
      Effect.gen(function* () {
        const start = yield* restartable()
        const first = yield* start()
        const anonymous = yield* GreenroomClient.make({ baseUrl: first.gateway.url, retryTimeout: "1 minute" })
        const credentials = yield* anonymous.register({ user: "patient", password: "secret" })
        const client = yield* anonymous.as(credentials)
        const room = yield* roomOf(client)
        const from = yield* client.now
        const socket = yield* GreenroomSocket.connect(client, { from })
        const firstReceived = yield* Deferred.make<void>()
        const byPoll = yield* Effect.forkChild(messages(client.events({ from }), 3))
        const bySocket = yield* Effect.forkChild(
          messages(
            Stream.tap(socket.events, () => Deferred.succeed(firstReceived, undefined)),
            3
          )
        )
        yield* client.sendText(room, "Before")
        yield* Deferred.await(firstReceived)
        yield* first.gateway.stop
        const meanwhile = yield* Effect.forkChild(
          Effect.all(
            [
              client.sendText(room, "Meanwhile"),
              socket.request("send", {
                room_id: room,
                type: "m.room.message",
                content: { msgtype: "m.text", body: "Meanwhile" }
              })
            ],
            { concurrency: 2 }
          )
        )
        yield* start(first.gateway.port)
        yield* Fiber.join(meanwhile)
        const expected = ["Before", "Meanwhile", "Meanwhile"]
        assert.deepStrictEqual(yield* Fiber.join(byPoll), expected)
        assert.deepStrictEqual(yield* Fiber.join(bySocket), expected)
        const members = yield* client.members(room)
        assert.deepStrictEqual(
          members.chunk.map(({ state_key }) => state_key),
          [credentials.user_id as UserId]
        )
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    180_000
  )
})
