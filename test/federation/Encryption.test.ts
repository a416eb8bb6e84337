import { assert, describe, it } from "@effect/vitest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import type { Session } from "@greenroom/actors/runtime/Session"
import { Sync } from "@greenroom/actors/sync/Sync"
import type { SyncAnswer } from "@greenroom/actors/sync/SyncAnswer"
import { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import { RemoteDeviceKeys } from "@greenroom/actors/user/encryption/RemoteDeviceKeys"
import { ToDevice } from "@greenroom/actors/user/encryption/ToDevice"
import { Effect } from "effect"
import type { TestServer } from "./support/HomeServers.ts"
import { scene } from "./support/Scene.ts"

const upload = (server: TestServer, session: Session, key: string, oneTime: object = {}) =>
  server.run(
    Effect.flatMap(DeviceKeys, (keys) =>
      keys.upload(session, {
        device_keys: {
          user_id: session.userId,
          device_id: session.deviceId,
          algorithms: [],
          keys: { [`ed25519:${session.deviceId}`]: key },
          signatures: {}
        },
        one_time_keys: oneTime as never
      })
    )
  )

const send = (server: TestServer, from: Session, to: Session, txnId: string, n = txnId) =>
  server.run(
    Effect.flatMap(ToDevice, (toDevice) =>
      toDevice.send(from, {
        type: "m.test",
        txnId,
        messages: new Map([[to.userId, { [to.deviceId]: { n } }]])
      })
    )
  )

const sync = (server: TestServer, session: Session, since?: string, timeout = 0) =>
  server.run(Effect.flatMap(Sync, (sync) => sync.sync(session, { since, timeout })))

/** Syncs until the answers satisfy the condition. */
const syncUntil = Effect.fnUntraced(function* (
  server: TestServer,
  session: Session,
  since: string,
  holds: (answers: ReadonlyArray<SyncAnswer>) => boolean
) {
  const answers: Array<SyncAnswer> = []
  let position = since
  while (!holds(answers)) {
    const answer = yield* sync(server, session, position, 60_000)
    answers.push(answer)
    position = answer.next_batch
  }
  return { answers, position }
})

const messages = (answers: ReadonlyArray<SyncAnswer>) =>
  answers.flatMap(({ to_device }) => (to_device?.events ?? []).map(({ content }) => (content as { n: string }).n))

describe("Encryption between servers", () => {
  it.live("device keys are queried and claimed at the other server, and changes are announced", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const since = (yield* sync(blue, bob)).next_batch
      yield* upload(red, alice, "first", { "signed_curve25519:a": { key: "one" } })
      const changed = (answers: ReadonlyArray<SyncAnswer>) =>
        answers.some(({ device_lists }) => device_lists?.changed.includes(alice.userId))
      yield* syncUntil(blue, bob, since, changed)
      const remote = yield* blue.run(
        Effect.flatMap(RemoteDeviceKeys, (keys) =>
          Effect.all({
            found: keys.query(bob.userId, new Map([[alice.userId, []]]), undefined),
            claimed: keys.claim(
              bob.userId,
              [{ userId: alice.userId, deviceId: alice.deviceId, algorithm: "signed_curve25519" }],
              undefined
            )
          })
        )
      )
      assert.strictEqual(remote.found.failures, "{}")
      const device = JSON.parse(remote.found.device_keys)[alice.userId][alice.deviceId] as { readonly keys: object }
      assert.deepStrictEqual(device.keys, { [`ed25519:${alice.deviceId}`]: "first" })
      assert.deepStrictEqual<unknown>(JSON.parse(remote.claimed.one_time_keys), {
        [alice.userId]: { [alice.deviceId]: { "signed_curve25519:a": { key: "one" } } }
      })
      // A new display name of the device is a change too.
      const before = (yield* sync(blue, bob)).next_batch
      yield* red.run(
        Effect.gen(function* () {
          yield* (yield* Accounts).renameDevice(alice.userId, alice.deviceId, "Laptop")
          yield* (yield* DeviceKeys).changed
        })
      )
      yield* syncUntil(blue, bob, before, changed)
      const renamed = yield* blue.run(
        Effect.flatMap(RemoteDeviceKeys, (keys) => keys.query(bob.userId, new Map([[alice.userId, []]]), undefined))
      )
      assert.deepInclude(JSON.parse(renamed.device_keys)[alice.userId][alice.deviceId] as object, {
        unsigned: { device_display_name: "Laptop" }
      })
      // They are available while the other server is stopped.
      yield* red.stop
      const offline = yield* blue.run(
        Effect.flatMap(RemoteDeviceKeys, (keys) => keys.query(bob.userId, new Map([[alice.userId, []]]), undefined))
      )
      assert.deepStrictEqual(offline, renamed)
    })
  )

  it.live("to-device messages to a stopped server arrive once and in order after its start", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const since = (yield* sync(blue, bob)).next_batch
      yield* send(red, alice, bob, "1")
      const { position } = yield* syncUntil(blue, bob, since, (answers) => messages(answers).length > 0)
      yield* blue.stop
      for (const txnId of ["2", "3", "3", "4"]) yield* send(red, alice, bob, txnId)
      yield* blue.start
      // A message from blue to red ends the back-off.
      yield* send(blue, bob, alice, "hello")
      const { answers } = yield* syncUntil(blue, bob, position, (answers) => messages(answers).includes("4"))
      assert.deepStrictEqual(messages(answers), ["2", "3", "4"])
    })
  )

  it.live("text without a canonical form, in messages to devices and in names of devices, holds up nothing else", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red } = yield* scene
      const since = (yield* sync(blue, bob)).next_batch
      yield* red.run(
        Effect.flatMap(Accounts, (accounts) => accounts.renameDevice(alice.userId, alice.deviceId, "Phone \ud800"))
      )
      yield* upload(red, alice, "first")
      yield* send(red, alice, bob, "one", "one \ud800")
      yield* send(red, alice, bob, "two")
      const { answers } = yield* syncUntil(blue, bob, since, (answers) => messages(answers).includes("two"))
      assert.deepStrictEqual(messages(answers), ["one \ufffd", "two"])
      const found = yield* blue.run(
        Effect.flatMap(RemoteDeviceKeys, (keys) => keys.query(bob.userId, new Map([[alice.userId, []]]), undefined))
      )
      const device = JSON.parse(found.device_keys)[alice.userId][alice.deviceId] as { readonly unsigned: object }
      assert.deepStrictEqual(device.unsigned, { device_display_name: "Phone \ufffd" })
    })
  )
})
