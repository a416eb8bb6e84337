/**
 * A join sends device-list updates of the user to servers that share a room with the user from then on, and not to servers that shared
 * one before.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Context, Effect, Layer, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { hostileNetwork } from "./support/HostileNetwork.ts"
import { change, expectOk, type HomeServer, say, setState } from "./support/Network.ts"
import { createRoom, joinThrough } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

const network = hostileNetwork(["red.test", "blue.test"], { dialect: "today" })

class Servers extends Context.Service<Servers, Effect.Success<typeof network>>()("greenroom/test/DevicesOfJoins") {
  static readonly layer = Layer.effect(Servers, network)
}

const uploadKeys = Effect.fnUntraced(function* (person: Person) {
  const { device_id } = yield* expectOk(person.ask("GET", "//_matrix/client/v3/account/whoami"))
  const keys = { [`curve25519:${device_id}`]: "c".repeat(43), [`ed25519:${device_id}`]: "e".repeat(43) }
  const device_keys = {
    user_id: person.userId,
    device_id,
    algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
    keys,
    signatures: { [person.userId]: { [`ed25519:${device_id}`]: "s".repeat(86) } }
  }
  yield* expectOk(person.ask("POST", "//_matrix/client/v3/keys/upload", { device_keys }))
  return { device_id, keys }
})

/** Uploads new cross-signing keys, of which the master key is unsigned. */
const uploadCrossSigningKeys = Effect.fnUntraced(function* (person: Person) {
  const signer = generateSigningKey(person.userId as string as ServerName, "ed25519:master")
  const publicKey = encodeBase64(exportVerifyKey(verifyKeyOf(signer)))
  const keyOf = (usage: string, key: string) => ({
    user_id: person.userId,
    usage: [usage],
    keys: { [`ed25519:${key}`]: key }
  })
  const signed = (key: ReturnType<typeof keyOf>) =>
    Result.getOrThrow(signJson(key, { ...signer, keyId: `ed25519:${publicKey}` }))
  const keys = {
    master_key: keyOf("master", publicKey),
    self_signing_key: signed(keyOf("self_signing", "s".repeat(43))),
    user_signing_key: signed(keyOf("user_signing", "u".repeat(43)))
  }
  yield* expectOk(person.ask("POST", "//_matrix/client/v3/keys/device_signing/upload", keys))
  return keys
})

let users = 0

/** Rooms with Mallory on red.test, and Alice of red.test, who is in none of them. */
const scene = Effect.gen(function* () {
  const { evil, servers } = yield* Servers
  const [red, blue] = servers as [HomeServer, HomeServer]
  const number = ++users
  const [founder, alice] = [yield* red.register(`founder${number}`), yield* red.register(`alice${number}`)]
  const device = yield* uploadKeys(alice)
  const mallory = `@mallory${number}:evil.test`
  const newRoom = Effect.gen(function* () {
    const id = yield* createRoom(founder, "11")
    yield* evil.join(red, id, mallory)
    return id
  })
  const room = yield* newRoom
  /**
   * The updates about Alice that the hostile server has received. Updates are sent in their order, so they are complete once the update
   * of a user who joins now has arrived.
   */
  const updates = Effect.gen(function* () {
    const last = yield* red.register(`last${number}x${evil.receivedEdus.length}`)
    yield* uploadKeys(last)
    yield* expectOk(joinThrough(last, room, red))
    const ofUser = (userId: string) =>
      evil.receivedEdus
        .filter(({ content, edu_type }: Body) => edu_type === "m.device_list_update" && content.user_id === userId)
        .map(({ content }: Body) => content)
    yield* Effect.promise(() => vi.waitUntil(() => ofUser(last.userId).length > 0, { timeout: 60_000, interval: 50 }))
    return ofUser(alice.userId)
  })
  const join = (id: string) => expectOk(joinThrough(alice, id, red))
  return { alice, blue, device, evil, founder, join, mallory, newRoom, red, room, updates }
})

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Devices of users who join", (it) => {
  it.effect("a join sends one update of each device with its keys", () =>
    Effect.gen(function* () {
      const { alice, device, join, room, updates } = yield* scene
      assert.deepStrictEqual(yield* updates, [], "no update is sent before the join")
      yield* join(room)
      const [update, ...others] = yield* updates
      assert.deepStrictEqual(others, [])
      assert.deepInclude(update, { user_id: alice.userId, device_id: device.device_id, prev_id: [] })
      assert.isNumber(update.stream_id)
      assert.deepStrictEqual(update.keys.keys, device.keys)
      // A new display name in the room is no join.
      yield* expectOk(setState(alice, room, "m.room.member", { membership: "join", displayname: "A" }, alice.userId))
      yield* say(alice, room, "here")
      assert.lengthOf(yield* updates, 1)
    })
  )

  it.effect("a join of a second room sends no update to a server that shares the first, until no room is shared", () =>
    Effect.gen(function* () {
      const { alice, join, newRoom, room, updates } = yield* scene
      const second = yield* newRoom
      yield* join(room)
      assert.lengthOf(yield* updates, 1)
      yield* join(second)
      assert.lengthOf(yield* updates, 1)
      yield* expectOk(change(alice, second, "leave"))
      yield* join(second)
      assert.lengthOf(yield* updates, 1, "the first room is still shared")
      for (const id of [room, second]) yield* expectOk(change(alice, id, "leave"))
      yield* join(second)
      assert.lengthOf(yield* updates, 2)
    })
  )

  it.effect("invitations and refused joins send no updates", () =>
    Effect.gen(function* () {
      const { alice, founder, red, room, updates } = yield* scene
      yield* expectOk(change(founder, room, "invite", alice.userId))
      assert.deepStrictEqual(yield* updates, [])
      yield* expectOk(change(alice, room, "leave"))
      yield* expectOk(change(founder, room, "ban", alice.userId))
      assert.strictEqual((yield* joinThrough(alice, room, red)).status, 403)
      assert.deepStrictEqual(yield* updates, [])
    })
  )

  it.effect("updates of cross-signing keys contain them as uploaded, and never a user-signing key", () =>
    Effect.gen(function* () {
      const { alice, evil, join, room, updates } = yield* scene
      yield* join(room)
      const { master_key, self_signing_key } = yield* uploadCrossSigningKeys(alice)
      yield* updates
      const announced = evil.receivedEdus
        .filter(
          ({ content, edu_type }: Body) => edu_type === "m.signing_key_update" && content.user_id === alice.userId
        )
        .map(({ content }: Body) => content)
      assert.deepStrictEqual(announced.at(-1), { user_id: alice.userId, master_key, self_signing_key })
      assert.isAtMost(announced.length, 2)
    })
  )
})
