/** The typed client of the current API against the real program. */
import { assert, layer } from "@effect/vitest"
import { ConnectionError } from "@greenroom/client/ConnectionError"
import { MatrixClient } from "@greenroom/client/MatrixClient"
import { RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import {
  BadRequest,
  Forbidden,
  InvalidParam,
  MissingToken,
  NotFound,
  UnknownToken,
  UserInUse
} from "@greenroom/protocol/MatrixError"
import { Effect, Fiber, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { Stage } from "../support/Scene.ts"

let users = 0

const clientOf = Effect.gen(function* () {
  const { gateway } = yield* Stage
  return yield* MatrixClient.make({ baseUrl: `${gateway.url}/` })
})

/** A client of the stage's gateway, as a new user. */
const newcomer = Effect.fnUntraced(function* (name: string) {
  const anonymous = yield* clientOf
  const credentials = yield* anonymous.register({ user: `${name}${++users}`, password: Redacted.make("secret") })
  return { client: yield* anonymous.as(credentials), userId: credentials.user_id }
})

layer(Stage.layer(), { excludeTestServices: true })("MatrixClient", (it) => {
  it.effect("a client registers, logs in, sends and reads; errors have the tags of their errcodes", () =>
    Effect.gen(function* () {
      const anonymous = yield* clientOf
      const { user_id } = yield* anonymous.register({ user: "carla", password: "secret", deviceName: "Test" })
      assert.instanceOf(yield* Effect.flip(anonymous.register({ user: "carla", password: "secret" })), UserInUse)
      assert.instanceOf(yield* Effect.flip(anonymous.login({ user: "carla", password: "wrong" })), Forbidden)
      const carla = yield* anonymous.as(
        yield* anonymous.login({ user: "carla", password: "secret", deviceId: "PHONE" })
      )
      assert.deepStrictEqual(yield* carla.whoami, { user_id, device_id: "PHONE", is_guest: false })
      const { room_id } = yield* carla.createRoom({ preset: "public_chat", room_alias_name: "carlas", topic: "Words" })
      const { event_id } = yield* carla.sendText(room_id, "Hello", { txnId: "1" })
      assert.deepStrictEqual(yield* carla.sendText(room_id, "Hello", { txnId: "1" }), { event_id })
      assert.deepStrictEqual((yield* carla.getEvent(room_id, event_id)).content, { msgtype: "m.text", body: "Hello" })
      assert.propertyVal(yield* carla.getState(room_id, "m.room.topic"), "topic", "Words")
      yield* carla.setState(room_id, "m.room.name", { name: "Ours" })
      assert.deepStrictEqual(yield* carla.getState(room_id, "m.room.name"), { name: "Ours" })
      assert.instanceOf(yield* Effect.flip(carla.getState(room_id, "m.room.avatar")), NotFound)
      const { chunk } = yield* carla.messages(room_id, { limit: 2 })
      assert.deepStrictEqual(
        chunk.map(({ type }) => type),
        ["m.room.name", "m.room.message"]
      )
      yield* carla.redact(room_id, event_id, { reason: "Nothing" })
      assert.deepStrictEqual((yield* carla.getEvent(room_id, event_id)).content, {})
      yield* carla.logout
      assert.instanceOf(yield* Effect.flip(carla.whoami), UnknownToken)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a client invites, joins, kicks and bans; refused requests are errors with their tags", () =>
    Effect.gen(function* () {
      const [owner, guest] = [yield* newcomer("owner"), yield* newcomer("guest")]
      const { room_id } = yield* owner.client.createRoom({ preset: "private_chat" })
      assert.instanceOf(yield* Effect.flip(guest.client.join(room_id)), Forbidden)
      yield* owner.client.invite(room_id, guest.userId)
      yield* guest.client.join(room_id)
      assert.deepStrictEqual((yield* guest.client.joinedRooms).joined_rooms, [room_id])
      assert.instanceOf(yield* Effect.flip(guest.client.kick(room_id, owner.userId)), Forbidden)
      yield* owner.client.ban(room_id, guest.userId, { reason: "Noise" })
      assert.deepStrictEqual((yield* guest.client.joinedRooms).joined_rooms, [])
      yield* owner.client.unban(room_id, guest.userId)
      const unknown = RoomAlias.make("#nowhere:green.test")
      assert.instanceOf(yield* Effect.flip(guest.client.join(unknown)), NotFound)
      assert.strictEqual((yield* owner.client.members(room_id)).chunk.length, 2)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("the event stream has every event once, in order, also from a token", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* newcomer("alice"), yield* newcomer("bob")]
      const { room_id } = yield* alice.client.createRoom({ preset: "public_chat" })
      yield* bob.client.join(room_id)
      const { next_batch: since } = yield* bob.client.sync({ filter: { room: { timeline: { limit: 1 } } } })
      const bodies = (from: string) =>
        bob.client.events({ since: from }).pipe(
          Stream.filter(({ type }) => type === "m.room.message"),
          Stream.map(({ content, room_id }) => [room_id, content.body]),
          Stream.take(5),
          Stream.runCollect
        )
      const live = yield* Effect.forkChild(bodies(since))
      for (const body of ["1", "2", "3", "4", "5"]) yield* alice.client.sendText(room_id, body)
      const expected = ["1", "2", "3", "4", "5"].map((body) => [room_id, body])
      assert.deepStrictEqual(yield* Fiber.join(live), expected)
      assert.deepStrictEqual(yield* bodies(since), expected)
      assert.instanceOf(yield* Effect.flip(bob.client.sync({ filter: "{" })), InvalidParam)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a client uploads and downloads files", () =>
    Effect.gen(function* () {
      const { client } = yield* newcomer("painter")
      const bytes = new TextEncoder().encode("Once upon a time")
      const uri = yield* client.upload(bytes, { contentType: "text/plain", fileName: "tale.txt" })
      assert.match(uri, /^mxc:\/\/green\.test\//)
      const file = yield* client.download(uri)
      assert.deepStrictEqual(file.bytes, bytes)
      assert.match(file.contentType, /^text\/plain/)
      assert.instanceOf(yield* Effect.flip(client.download("mxc://green.test/nothing")), NotFound)
      assert.instanceOf(yield* Effect.flip(client.download("https://green.test/")), InvalidParam)
      assert.instanceOf(yield* Effect.flip((yield* clientOf).upload(bytes)), MissingToken)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a client imports, changes and exports contacts", () =>
    Effect.gen(function* () {
      const { client } = yield* newcomer("librarian")
      const card = (name: string) => `BEGIN:VCARD\r\nVERSION:4.0\r\nFN:${name}\r\nEND:VCARD\r\n`
      const imported = yield* client.importContacts(card("Ada") + card("Ben") + card("Cem"))
      assert.deepStrictEqual(imported, { created: 3, merged: 0, unchanged: 0, total: 3 })
      const all = yield* Stream.runCollect(client.allContacts({ limit: 2 }))
      assert.deepStrictEqual(
        all.map(({ name }) => name),
        ["Ada", "Ben", "Cem"]
      )
      const [ada, ben] = all
      const jcard = [
        "vcard",
        [
          ["version", {}, "text", "4.0"],
          ["fn", {}, "text", "Ada L."]
        ]
      ] as const
      const changed = yield* client.replaceContact(ada!.contact_id, jcard, ada!.etag)
      assert.strictEqual(changed.name, "Ada L.")
      const late = yield* Effect.flip(client.replaceContact(ada!.contact_id, jcard, ada!.etag))
      assert.instanceOf(late, BadRequest)
      yield* client.removeContact(ben!.contact_id)
      assert.instanceOf(yield* Effect.flip(client.getContact(ben!.contact_id)), NotFound)
      assert.instanceOf(yield* Effect.flip(client.importContacts("nonsense\n")), InvalidParam)
      const exported = JSON.parse(yield* client.exportContacts("jcard")) as ReadonlyArray<unknown>
      assert.deepStrictEqual(exported[0], changed.card)
      assert.match(yield* client.exportContacts(), /FN:Ada L\.\r\n[\s\S]*FN:Cem\r\n/)
      yield* client.removeAllContacts
      assert.deepStrictEqual((yield* client.getContacts()).contacts, [])
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  it.effect("a client can call endpoints by their names, and reports an unreachable server", () =>
    Effect.gen(function* () {
      const { client, userId } = yield* newcomer("dora")
      yield* client.api["clientServer.profile"].setField({
        params: { userId, keyName: "displayname" },
        payload: { displayname: "Dora" }
      })
      const nowhere = yield* MatrixClient.make({ baseUrl: "http://127.0.0.1:1", retryTimeout: 0 })
      const error = yield* Effect.flip(nowhere.versions)
      assert.instanceOf(error, ConnectionError)
      assert.isTrue(error.transient)
      assert.instanceOf(yield* Effect.flip(client.messages(RoomId.make("!none:green.test"))), Forbidden)
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )
})
