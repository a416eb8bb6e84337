/**
 * Two users of two servers in an encrypted room, both with matrix-js-sdk and its cryptography. `test:interop` runs it, not
 * `test:clients`. The argument is JSON with the sessions of both.
 */
import { setTimeout as delay } from "node:timers/promises"
import { ClientEvent, createClient, SyncState } from "matrix-js-sdk"
import { logger } from "matrix-js-sdk/lib/logger.js"

logger.setLevel("silent")

const { people, version, via } = JSON.parse(process.argv[2])

const until = async (what, look) => {
  for (let turn = 0; turn < 300; turn++) {
    const found = await look()
    if (found) return found
    await delay(100)
  }
  throw new Error(`Not within 30 seconds: ${what}`)
}

/** A device that syncs, with its keys in memory. */
const start = async ({ access_token: accessToken, device_id: deviceId, url: baseUrl, user_id: userId }) => {
  const client = createClient({ baseUrl, accessToken, deviceId, userId })
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

const [alice, bob] = await Promise.all(people.map(start))
const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }
const { room_id: room } = await alice.createRoom({
  preset: "private_chat",
  room_version: version,
  invite: [bob.getUserId()],
  initial_state: [encryption]
})
await until("the invitation", () => bob.getRoom(room)?.getMyMembership() === "invite")
await bob.joinRoom(room, { viaServers: [via] })
await until("the join", () => alice.getRoom(room)?.getMember(bob.getUserId())?.membership === "join")
await until("the encryption", () => bob.getCrypto().isEncryptionEnabledInRoom(room))

const decrypted = async (client, eventId, body) => {
  const event = await until("the event", () => client.getRoom(room)?.findEventById(eventId))
  await until(`${client.getUserId()} reads: ${body}`, async () => {
    await client.decryptEventIfNeeded(event)
    if (event.isDecryptionFailure()) await event.attemptDecryption(client.getCrypto(), { isRetry: true })
    return event.getContent().body === body
  })
  if (!event.isEncrypted()) throw new Error("The event was sent in the clear")
}

for (const [speaker, listener, body] of [
  [alice, bob, "secret one"],
  [bob, alice, "secret two"]
]) {
  const { event_id } = await speaker.sendTextMessage(room, body)
  await decrypted(listener, event_id, body)
}
process.exit(0)
