/**
 * The stored devices of users of other servers: available while their server is unreachable, changed by its updates, requested again after
 * a missed update, and bounded.
 */
import { assert, describe, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { ArrivingAnswers } from "@greenroom/actors/runtime/AnswerBudget"
import { ArrivingBodies } from "@greenroom/actors/runtime/ArrivingBodies"
import type { Session } from "@greenroom/actors/runtime/Session"
import { Sync } from "@greenroom/actors/sync/Sync"
import { RemoteDeviceKeys } from "@greenroom/actors/user/encryption/RemoteDeviceKeys"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { CurrentAllowance } from "@greenroom/store/LargeReads"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Result } from "effect"
import { SqlClient } from "effect/sql"
import type { Body } from "../support/Curl.ts"
import { homeServers, type TestServer } from "./support/HomeServers.ts"
import { HostileServer } from "./support/HostileServer.ts"

const mallory = "@mallory:evil.test" as UserId

const devicesPath = `/v1/user/devices/${mallory}`
const queryPath = "/v1/user/keys/query"

const keysOf = (deviceId: string, more: Body = {}): Body => ({
  user_id: mallory,
  device_id: deviceId,
  algorithms: ["m.megolm.v1.aes-sha2"],
  keys: { [`curve25519:${deviceId}`]: "c".repeat(43) },
  signatures: {},
  ...more
})

const device = (deviceId: string, more: Body = {}) => ({ device_id: deviceId, keys: keysOf(deviceId), ...more })

const away = { status: 503, body: { errcode: "M_UNKNOWN", error: "Away" } }
const unknown = { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "There is no such endpoint" } }

/** Alice of red.test and Mallory of evil.test in a room. */
const scene = Effect.gen(function* () {
  const evil = new HostileServer("evil.test", "today")
  const port = yield* freePort
  yield* evil.listen(port)
  const [red] = (yield* homeServers(["red.test"], { others: { "evil.test": port } })) as [TestServer]
  const address = { serverName: red.serverName, federationPort: red.settings.port }
  const alice = yield* red.person("alice")
  const roomOf = (session: Session) =>
    red.run(Effect.flatMap(Rooms, (rooms) => rooms.create(session, { visibility: "public", room_version: "11" })))
  const { room_id } = yield* roomOf(alice)
  const room = yield* evil.join(address, room_id, mallory)
  /** The answer to a request for Mallory's devices. */
  const list = { stream_id: 1, devices: [device("A")] as ReadonlyArray<Body>, more: {} as Body }
  const answerDevices = () => ({
    status: 200,
    body: { user_id: mallory, stream_id: list.stream_id, devices: list.devices, ...list.more }
  })
  evil.respond = ({ path }) => (path === devicesPath ? answerDevices() : unknown)
  const queryAs = (session: Session, wanted: ReadonlyArray<string> = []) =>
    Effect.map(
      red.run(
        Effect.flatMap(RemoteDeviceKeys, (keys) => keys.query(session.userId, new Map([[mallory, wanted]]), 5_000))
      ),
      (found) => ({
        devices: (JSON.parse(found.device_keys)[mallory] ?? {}) as { readonly [deviceId: string]: Body },
        master: JSON.parse(found.master_keys)[mallory] as Body | undefined,
        selfSigning: JSON.parse(found.self_signing_keys)[mallory] as Body | undefined,
        failures: Object.keys(JSON.parse(found.failures))
      })
    )
  const query = queryAs(alice)
  const update = (...contents: ReadonlyArray<Body>) =>
    Effect.map(
      evil.send(address, [], {
        edus: contents.map((content) => ({
          edu_type: "m.device_list_update",
          content: { user_id: mallory, ...content }
        }))
      }),
      ({ status }) => assert.strictEqual(status, 200)
    )
  /** How often Mallory's devices were requested. */
  const requestCount = () => evil.asked.filter((path) => path === devicesPath || path === queryPath).length
  const sync = (since?: string, timeout = 0) =>
    red.run(Effect.flatMap(Sync, (sync) => sync.sync(alice, { since, timeout })))
  /** Syncs until an answer lists Mallory's devices as changed. */
  const changed = (since: string): Effect.Effect<string> =>
    Effect.flatMap(Effect.orDie(sync(since, 60_000)), ({ device_lists, next_batch }) =>
      device_lists?.changed.includes(mallory) ? Effect.succeed(next_batch) : changed(next_batch)
    )
  const known = red.run(Effect.flatMap(RemoteDeviceListStore, (store) => store.read([mallory])))
  return { evil, red, address, alice, room, room_id, list, query, queryAs, update, requestCount, sync, changed, known }
})

const ed25519 = (name: string) => {
  const key = generateSigningKey(serverNameOf(mallory), `ed25519:${name}`)
  return { key, publicKey: encodeBase64(exportVerifyKey(verifyKeyOf(key))) }
}

/** The object with a signature of Mallory. */
const signed = (object: Body, { key }: ReturnType<typeof ed25519>): Body =>
  Result.getOrThrow(signJson(object as JsonObject, { ...key, serverName: mallory as never }))

describe("Devices of users of other servers", () => {
  it.live("devices are known while their server is unreachable, and after a restart", () =>
    Effect.gen(function* () {
      const { alice, evil, query, queryAs, requestCount, red } = yield* scene
      const both = yield* Effect.all([query, query, query], { concurrency: "unbounded" })
      for (const { devices, failures } of both) {
        assert.deepStrictEqual(Object.keys(devices), ["A"])
        assert.deepStrictEqual(failures, [])
      }
      assert.strictEqual(requestCount(), 1)
      evil.respond = () => away
      yield* red.stop
      yield* red.start
      assert.deepStrictEqual(yield* query, both[0])
      assert.deepStrictEqual(Object.keys((yield* queryAs(alice, ["B"])).devices), [])
      assert.strictEqual(requestCount(), 1)
    })
  )

  it.live("devices change with consecutive updates, and updates without changes are not announced", () =>
    Effect.gen(function* () {
      const { changed, query, requestCount, sync, update } = yield* scene
      const before = (yield* sync()).next_batch
      yield* query
      const since = yield* changed(before)
      yield* update({ device_id: "B", stream_id: 2, prev_id: [1], keys: keysOf("B"), device_display_name: "Phone" })
      const next = yield* changed(since)
      const { devices } = yield* query
      assert.deepStrictEqual(Object.keys(devices), ["A", "B"])
      assert.deepStrictEqual(devices.B!.unsigned, { device_display_name: "Phone" })
      // The same update again, and one without a change.
      yield* update(
        { device_id: "B", stream_id: 2, prev_id: [1], keys: keysOf("B"), device_display_name: "Phone" },
        { device_id: "B", stream_id: 3, prev_id: [2], keys: keysOf("B"), device_display_name: "Phone" }
      )
      const quiet = yield* sync(next)
      assert.notInclude(quiet.device_lists?.changed ?? [], mallory)
      yield* update({ device_id: "A", stream_id: 4, prev_id: [3], deleted: true })
      yield* changed(quiet.next_batch)
      assert.deepStrictEqual(Object.keys((yield* query).devices), ["B"])
      assert.strictEqual(requestCount(), 1)
    })
  )

  it.live("devices are requested again after a missed update, as soon as their server is reachable", () =>
    Effect.gen(function* () {
      const { changed, evil, known, list, query, red, sync, update } = yield* scene
      const answers = evil.respond
      yield* query
      const since = (yield* sync()).next_batch
      evil.respond = () => away
      yield* update({ device_id: "C", stream_id: 3, prev_id: [2], keys: keysOf("C") })
      const next = yield* changed(since)
      // The device of the update is known, and the missed updates are not: the server is among the failures.
      const meanwhile = yield* query
      assert.deepStrictEqual(Object.keys(meanwhile.devices), ["A", "C"])
      assert.deepStrictEqual(meanwhile.failures, ["evil.test"])
      assert.isFalse((yield* known)[0]!.isCurrent)
      yield* red.stop
      list.devices = [device("A"), device("B"), device("C")]
      list.stream_id = 3
      evil.respond = answers
      yield* red.start
      // Any update shows that the server is reachable again.
      yield* update({ device_id: "C", stream_id: 3, prev_id: [2], keys: keysOf("C") })
      const { devices, failures } = yield* query
      assert.deepStrictEqual(Object.keys(devices), ["A", "B", "C"])
      assert.deepStrictEqual(failures, [])
      yield* changed(next)
      yield* update({ device_id: "D", stream_id: 4, prev_id: [3], keys: keysOf("D") })
      assert.deepStrictEqual(Object.keys((yield* query).devices), ["A", "B", "C", "D"])
    })
  )

  it.live("a list that this server gave up by a limit of its own is requested again soon", () =>
    Effect.gen(function* () {
      const { list, query, red, requestCount } = yield* scene
      const backOff = red.run(
        SqlClient.SqlClient.use((sql) =>
          Effect.orDie(
            sql`SELECT failures, retry_at > extract(epoch FROM now()) * 1000 AS waits FROM remote_device_lists`
          )
        )
      )
      list.more = { padding: " ".repeat(2 * 1024 * 1024) }
      for (let time = 1; time <= 3; time++) {
        assert.deepStrictEqual((yield* query).failures, ["evil.test"])
        assert.deepStrictEqual(yield* backOff, [{ failures: 0, waits: true }])
        assert.strictEqual(requestCount(), time)
      }
      list.more = {}
      assert.deepStrictEqual(Object.keys((yield* query).devices), ["A"])
    }).pipe(Effect.provideService(ArrivingAnswers, new ArrivingBodies(512 * 1024)))
  )

  it.live(
    "of claimed keys of another server so many bytes are read as keys may have, which count among those of the request",
    () =>
      Effect.gen(function* () {
        const { alice, evil, red } = yield* scene
        const claims = [{ userId: mallory, deviceId: "A", algorithm: "signed_curve25519" }]
        let taken = 0
        const take = (bytes: number) =>
          Effect.sync(() => {
            taken += bytes
          })
        const counting = { take, takeNow: () => true, expect: () => Effect.void, give: () => Effect.void }
        const claim = (size: number) => {
          const key = { key: "k".repeat(size) }
          evil.respond = () => ({
            status: 200,
            body: { one_time_keys: { [mallory]: { A: { "signed_curve25519:a": key } } } }
          })
          const claimed = Effect.flatMap(RemoteDeviceKeys, (keys) => keys.claim(alice.userId, claims, undefined))
          return Effect.provideService(red.run(claimed), CurrentAllowance, counting)
        }
        const small = yield* claim(100_000)
        assert.strictEqual(small.failures, "{}")
        assert.isAtLeast(taken, 100_000)
        assert.strictEqual(JSON.parse(small.one_time_keys)[mallory].A["signed_curve25519:a"].key.length, 100_000)
        assert.deepStrictEqual(yield* claim(300_000), { one_time_keys: "{}", failures: '{"evil.test":{}}' })
      })
  )

  it.live(
    "devices are requested again after the last shared room was left and joined, and deleted after the last shared room was left",
    () =>
      Effect.gen(function* () {
        const { address, alice, evil, known, list, query, red, room, room_id } = yield* scene
        yield* query
        const leave = { type: "m.room.member", state_key: mallory, sender: mallory, content: { membership: "leave" } }
        assert.deepStrictEqual(yield* evil.tell(address, evil.event(room, leave)), [undefined])
        list.devices = [device("A"), device("B")]
        assert.isUndefined((yield* known)[0]!.keys)
        yield* evil.join(address, room_id, mallory)
        assert.deepStrictEqual(Object.keys((yield* query).devices), ["A", "B"])
        yield* red.run(Effect.flatMap(Rooms, (rooms) => rooms.leave(alice, room_id)))
        const sweep = red.run(Effect.flatMap(RemoteDeviceListStore, (store) => store.sweep))
        assert.strictEqual(yield* sweep, 1)
        assert.strictEqual(yield* sweep, 0)
      })
  )

  it.live("devices of users of other servers, and devices with wrong or forged keys, are dropped", () =>
    Effect.gen(function* () {
      const { address, alice, evil, list, query, red } = yield* scene
      const own = ed25519("G")
      const master = ed25519("master")
      const selfSigning = ed25519("self")
      const keyOf = (usage: string, { publicKey }: typeof master) => ({
        user_id: mallory,
        usage: [usage],
        keys: { [`ed25519:${publicKey}`]: publicKey }
      })
      const good = keysOf("G", { keys: { "ed25519:G": own.publicKey } })
      const forged = (deviceId: string) => ({
        ...signed({ ...good, device_id: deviceId, keys: { [`ed25519:${deviceId}`]: own.publicKey } }, master),
        signatures: { [mallory]: { [`ed25519:${deviceId}`]: "A".repeat(86) } }
      })
      list.devices = [
        device("G", { keys: signed(good, own) }),
        device("F", { keys: forged("F") }),
        device("H", { keys: keysOf("H", { user_id: alice.userId }) }),
        device("I", { keys: keysOf("other") })
      ]
      list.more = {
        master_key: keyOf("master", master),
        self_signing_key: signed(keyOf("self_signing", selfSigning), own)
      }
      const found = yield* query
      assert.deepStrictEqual(Object.keys(found.devices), ["G"])
      assert.deepStrictEqual(found.master?.usage, ["master"])
      assert.isUndefined(found.selfSigning)
      // Updates for a user of another server, and for a user of ours.
      const stranger = "@bob:blue.test"
      yield* evil.send(address, [], {
        edus: [stranger, alice.userId].map((user_id) => ({
          edu_type: "m.device_list_update",
          content: { user_id, device_id: "X", stream_id: 1, keys: { ...keysOf("X"), user_id } }
        }))
      })
      const known = yield* red.run(
        Effect.flatMap(RemoteDeviceListStore, (store) => store.read([stranger as UserId, alice.userId]))
      )
      for (const { keys } of known) assert.isUndefined(keys)
    })
  )

  it.live("the number of devices is bounded, and a flood of updates costs few requests", () =>
    Effect.gen(function* () {
      const { list, query, requestCount, update } = yield* scene
      list.devices = Array.from({ length: 3_000 }, (_, index) => device(`D${index}`))
      assert.strictEqual(Object.keys((yield* query).devices).length, 1_000)
      const before = requestCount()
      for (let transaction = 0; transaction < 20; transaction++) {
        yield* update(
          ...Array.from({ length: 100 }, (_, index) => ({
            device_id: `F${index}`,
            stream_id: 1_000_000 + transaction * 1_000 + index * 2,
            prev_id: [999_999],
            keys: keysOf(`F${index}`)
          }))
        )
      }
      assert.strictEqual(Object.keys((yield* query).devices).length, 1_000)
      assert.isAtMost(requestCount() - before, 8)
    })
  )
})
