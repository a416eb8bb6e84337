/**
 * matrix-js-sdk with the cryptography of Element Web: an encrypted room, cross-signing, secret storage, and a key backup that a
 * new device restores.
 */
import { ClientEvent, createClient, SyncState } from "matrix-js-sdk"
import { logger } from "matrix-js-sdk/lib/logger.js"
import { check, end, fresh, password, serverName, step, until, url } from "./steps.mjs"

logger.setLevel("silent")

const names = { alice: fresh("alice"), bob: fresh("bob") }
let alice
let bob
let room
let secretStorageKey
let first

const register = async (username) => {
  const client = createClient({ baseUrl: url })
  const data = { username, password, initial_device_display_name: "js" }
  const { session } = await client.registerRequest(data).then(
    () => ({}),
    (error) => error.data
  )
  return client.registerRequest({ ...data, auth: { type: "m.login.dummy", session } })
}

const cryptoCallbacks = {
  getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], secretStorageKey],
  cacheSecretStorageKey: () => {}
}

/** A device that syncs, with its keys in memory. */
const start = async ({ access_token: accessToken, device_id: deviceId, user_id: userId }) => {
  const client = createClient({ baseUrl: url, accessToken, deviceId, userId, cryptoCallbacks })
  await client.initRustCrypto({ useIndexedDB: false })
  const prepared = new Promise((resolve) =>
    client.on(ClientEvent.Sync, (state) => {
      if (state === SyncState.Prepared) resolve()
    })
  )
  await client.startClient({ initialSyncLimit: 20 })
  await prepared
  return client
}

/** Waits until the client can read the event. */
const decrypted = async (client, eventId, body) => {
  const event = await until(() => client.getRoom(room)?.findEventById(eventId))
  await until(async () => {
    await client.decryptEventIfNeeded(event)
    if (event.isDecryptionFailure()) await event.attemptDecryption(client.getCrypto(), { isRetry: true })
    return event.getContent().body === body
  })
  check(event.isEncrypted(), "the event was sent in the clear")
}

/** Uploads keys, with the password where the server asks. */
const authUploadDeviceSigningKeys = (client) => (request) =>
  request(null).catch((error) =>
    request({
      type: "m.login.password",
      identifier: { type: "m.id.user", user: client.getUserId() },
      password,
      session: error.data.session
    })
  )

await step("devices upload their keys", async () => {
  alice = await start(await register(names.alice))
  bob = await start(await register(names.bob))
  const { device_keys } = await until(async () => {
    const found = await bob.downloadKeysForUsers([alice.getUserId()])
    return found.device_keys[alice.getUserId()]?.[alice.getDeviceId()] && found
  })
  check(device_keys[alice.getUserId()][alice.getDeviceId()].user_id === `@${names.alice}:${serverName}`, "other keys")
})

await step("encrypted room", async () => {
  const encryption = {
    type: "m.room.encryption",
    state_key: "",
    content: { algorithm: "m.megolm.v1.aes-sha2" }
  }
  room = (await alice.createRoom({ preset: "private_chat", invite: [bob.getUserId()], initial_state: [encryption] }))
    .room_id
  await until(() => bob.getRoom(room)?.getMyMembership() === "invite")
  await bob.joinRoom(room)
  await until(() => alice.getRoom(room)?.getMember(bob.getUserId())?.membership === "join")
  await until(() => alice.getCrypto().isEncryptionEnabledInRoom(room))
})

await step("encrypted message", async () => {
  first = (await alice.sendTextMessage(room, "secret one")).event_id
  await decrypted(bob, first, "secret one")
})

await step("answer", async () => {
  await until(() => bob.getCrypto().isEncryptionEnabledInRoom(room))
  const { event_id } = await bob.sendTextMessage(room, "secret two")
  await decrypted(alice, event_id, "secret two")
})

await step("cross-signing", async () => {
  await alice.getCrypto().bootstrapCrossSigning({
    authUploadDeviceSigningKeys: authUploadDeviceSigningKeys(alice)
  })
  await until(async () => {
    const status = await alice.getCrypto().getDeviceVerificationStatus(alice.getUserId(), alice.getDeviceId())
    return status?.signedByOwner && (await alice.getCrypto().isCrossSigningReady())
  })
})

await step("secret storage and key backup", async () => {
  const key = await alice.getCrypto().createRecoveryKeyFromPassphrase()
  secretStorageKey = key.privateKey
  await alice.getCrypto().bootstrapSecretStorage({
    createSecretStorageKey: async () => key,
    setupNewSecretStorage: true,
    setupNewKeyBackup: true
  })
  // The client asks for the version once, and its count is of then.
  await until(async () => (await alice.http.authedRequest("GET", "/room_keys/version")).count > 0)
})

let second
await step("new device", async () => {
  second = await start(
    await createClient({ baseUrl: url }).loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user: names.alice },
      password
    })
  )
  check(await second.getCrypto().userHasCrossSigningKeys(undefined, true), "the keys are not found")
  await second.getCrypto().bootstrapCrossSigning({
    authUploadDeviceSigningKeys: authUploadDeviceSigningKeys(second)
  })
  await until(async () => {
    const status = await alice.getCrypto().getDeviceVerificationStatus(alice.getUserId(), second.getDeviceId())
    return status?.signedByOwner
  })
})

await step("backup restored on the new device", async () => {
  await second.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage()
  const { imported } = await second.getCrypto().restoreKeyBackup()
  check(imported > 0, "no keys came")
  await decrypted(second, first, "secret one")
})

await step("message to the new device", async () => {
  await until(async () => {
    const devices = await bob.getCrypto().getUserDeviceInfo([alice.getUserId()])
    return devices.get(alice.getUserId())?.has(second.getDeviceId())
  })
  const { event_id } = await bob.sendTextMessage(room, "secret three")
  await decrypted(alice, event_id, "secret three")
  await decrypted(second, event_id, "secret three")
})

end()
