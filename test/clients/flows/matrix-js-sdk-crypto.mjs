/**
 * matrix-js-sdk with the cryptography of Element Web: two users with two devices each, an encrypted room and attachment,
 * verification by emoji, cross-signing, secret storage, and a key backup that new devices restore. The server is killed and
 * restarted in between. At the end neither its database nor its files contain the plaintext of encrypted messages.
 */
import { randomBytes } from "node:crypto"
import { Attachment, EncryptedAttachment } from "@matrix-org/matrix-sdk-crypto-wasm"
import { ClientEvent, createClient, SyncState } from "matrix-js-sdk"
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js"
import { logger } from "matrix-js-sdk/lib/logger.js"
import { check, end, fresh, killServer, password, searchServer, serverName, step, until, url } from "./steps.mjs"

logger.setLevel("silent")

const names = { alice: fresh("alice"), bob: fresh("bob") }
let alice
let bob
let room
let secretStorageKey
let first

/** Encrypted messages contain `secret`, unencrypted ones `overt`. */
const secret = `secret${randomBytes(12).toString("hex")}`
const overt = `overt${randomBytes(12).toString("hex")}`

const running = []

/** Kills and restarts the server. The clients reconnect at once, as after an outage of the network. */
const kill = async () => {
  await killServer()
  for (const client of running) client.retryImmediately()
}

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
  running.push(client)
  return client
}

const logIn = async (user) =>
  start(
    await createClient({ baseUrl: url }).loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user },
      password
    })
  )

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

/** Uploads keys, with the password if the server requests authentication. */
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
  first = (await alice.sendTextMessage(room, `${secret} one`)).event_id
  await decrypted(bob, first, `${secret} one`)
})

await step("answer", async () => {
  await kill()
  await until(() => bob.getCrypto().isEncryptionEnabledInRoom(room))
  const { event_id } = await bob.sendTextMessage(room, `${secret} two`)
  await decrypted(alice, event_id, `${secret} two`)
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
  await kill()
  const key = await alice.getCrypto().createRecoveryKeyFromPassphrase()
  secretStorageKey = key.privateKey
  await alice.getCrypto().bootstrapSecretStorage({
    createSecretStorageKey: async () => key,
    setupNewSecretStorage: true,
    setupNewKeyBackup: true
  })
  // The client requests the version only once, so it has an old count.
  await until(async () => (await alice.http.authedRequest("GET", "/room_keys/version")).count > 0)
})

let second
await step("new device", async () => {
  await kill()
  second = await logIn(names.alice)
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
  await kill()
  await second.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage()
  const { imported } = await second.getCrypto().restoreKeyBackup()
  check(imported > 0, "no keys came")
  await decrypted(second, first, `${secret} one`)
})

/** Waits until the client knows the other one's device. */
const knows = (client, other) =>
  until(async () => {
    const devices = await client.getCrypto().getUserDeviceInfo([other.getUserId()])
    return devices.get(other.getUserId())?.has(other.getDeviceId())
  })

await step("message to the new device", async () => {
  await knows(bob, second)
  const { event_id } = await bob.sendTextMessage(room, `${secret} three`)
  await decrypted(alice, event_id, `${secret} three`)
  await decrypted(second, event_id, `${secret} three`)
})

let bobs
await step("second device of the other user", async () => {
  bobs = await logIn(names.bob)
  await bob.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: authUploadDeviceSigningKeys(bob) })
  await kill()
  await knows(alice, bobs)
  const { event_id } = await alice.sendTextMessage(room, `${secret} four`)
  for (const client of [bob, bobs, second]) await decrypted(client, event_id, `${secret} four`)
})

await step("verification by emoji", async () => {
  const came = new Promise((resolve) => bob.once(CryptoEvent.VerificationRequestReceived, resolve))
  const asked = await alice.getCrypto().requestVerificationDM(bob.getUserId(), room)
  const received = await came
  await kill()
  await received.accept()
  await until(() => asked.phase === VerificationPhase.Ready)
  const shown = new Map()
  const verify = async (request, verifier) => {
    verifier.on(VerifierEvent.ShowSas, (sas) => shown.set(request, sas))
    await verifier.verify()
  }
  const first = verify(asked, await asked.startVerification("m.sas.v1"))
  await until(() => received.verifier)
  const second = verify(received, received.verifier)
  await until(() => shown.size === 2)
  const [one, other] = [...shown.values()]
  check(JSON.stringify(one.sas.emoji) === JSON.stringify(other.sas.emoji), "they see different emoji")
  await kill()
  await Promise.all([one.confirm(), other.confirm()])
  await Promise.all([first, second])
  for (const [client, other] of [
    [alice, bob],
    [bob, alice]
  ]) {
    await until(async () =>
      (await client.getCrypto().getUserVerificationStatus(other.getUserId())).isCrossSigningVerified()
    )
  }
})

/** The number of one-time keys that a device keeps on the server. */
const keysWanted = 50

await step("no more one-time keys than needed", async () => {
  for (const client of running) {
    const { one_time_key_counts } = await client.http.authedRequest("POST", "/keys/upload", undefined, {})
    const { signed_curve25519: count } = one_time_key_counts
    check(count > 0 && count <= keysWanted, `${client.getUserId()} has ${count}`)
  }
})

await step("encrypted attachment", async () => {
  const plain = Buffer.from(`A file: ${secret}`.repeat(5_000))
  const encrypted = Attachment.encrypt(plain)
  const { content_uri } = await alice.uploadContent(new Blob([encrypted.encryptedData]), { includeFilename: false })
  await kill()
  const file = { ...JSON.parse(encrypted.mediaEncryptionInfo), url: content_uri }
  const content = { msgtype: "m.file", body: `${secret} file`, file }
  const { event_id } = await alice.sendMessage(room, content)
  await decrypted(bobs, event_id, `${secret} file`)
  const { file: received } = bobs.getRoom(room).findEventById(event_id).getContent()
  const at = bobs.mxcUrlToHttp(received.url, undefined, undefined, undefined, false, true, true)
  const response = await fetch(at, { headers: { authorization: `Bearer ${bobs.getAccessToken()}` } })
  const bytes = new Uint8Array(await response.arrayBuffer())
  const read = Attachment.decrypt(new EncryptedAttachment(bytes, JSON.stringify(received)))
  check(plain.equals(Buffer.from(read)), "the file is another")
})

/** Sends a message, and again under the same transaction ID where the connection broke. */
const sendSurely = async (client, body) => {
  const transaction = client.makeTxnId()
  try {
    return (await client.sendMessage(room, { msgtype: "m.text", body }, transaction)).event_id
  } catch {
    await until(async () => (await fetch(`${url}/_matrix/client/versions`).catch(() => undefined))?.ok)
    return (await client.resendEvent(client.getRoom(room).getEventForTxnId(transaction), client.getRoom(room))).event_id
  }
}

await step("killed while messages are sent", async () => {
  const bodies = Array.from({ length: 12 }, (_, index) => `${secret} of many ${index}`)
  const sent = []
  let killed
  for (const body of bodies) {
    if (sent.length === 4) killed = kill()
    sent.push(await sendSurely(alice, body))
  }
  await killed
  for (const [index, id] of sent.entries())
    for (const client of [bob, bobs, second]) await decrypted(client, id, bodies[index])
  const seen = bob.getRoom(room).getLiveTimeline().getEvents()
  const texts = seen.map((event) => event.getContent().body).filter((body) => bodies.includes(body))
  check(texts.join() === bodies.join(), `they came as ${texts}`)
})

await step("nothing of it is kept in the clear", async () => {
  const open = (await alice.createRoom({ preset: "private_chat" })).room_id
  await alice.sendTextMessage(open, overt)
  await alice.uploadContent(new Blob([`A file: ${overt}`]), { includeFilename: false })
  const found = await searchServer(overt)
  if (found === undefined) return
  // The search finds unencrypted messages, so it would find the others too. Several nodes keep files in a table.
  for (const place of [/^table event/, /^(file media|table media_chunks)/, /^file postgres\/pg_wal/]) {
    check(
      found.some((name) => place.test(name)),
      `the search finds nothing in ${place}: ${found}`
    )
  }
  const keys = (await alice.getCrypto().exportRoomKeys()).map(({ session_key }) => session_key)
  check(keys.length > 0, "there are no keys")
  const recovery = Buffer.from(secretStorageKey).toString("base64").slice(0, 40)
  for (const text of [secret, keys[0].slice(0, 60), recovery]) {
    const places = await searchServer(text)
    check(places.length === 0, `${text.slice(0, 12)} is in ${places}`)
  }
})

end()
