/** Scenes that hardly depend on the room version, or take long. They run in the newest of the wanted versions only. */
import { randomBytes, randomUUID } from "node:crypto"
import type { Body } from "../../support/Curl.ts"
import type { Person } from "../synapse/Person.ts"
import { encryptedMessages } from "./encryption.ts"
import {
  assertSameState,
  createRoom,
  exchangeMessages,
  messagesOf,
  type Scene,
  sees,
  sharedRoom,
  until
} from "./scenes.ts"

const encode = encodeURIComponent

/** Uploads bytes. Returns the MXC URI. */
const upload = async (person: Person, bytes: Buffer): Promise<string> => {
  const response = await person.raw("POST", "/_matrix/media/v3/upload?filename=picture", bytes, "text/plain")
  return ((await response.json()) as { readonly content_uri: string }).content_uri
}

const download = async (person: Person, uri: string): Promise<Buffer> => {
  const path = `/_matrix/client/v1/media/download/${uri.slice("mxc://".length)}`
  return Buffer.from(await (await person.raw("GET", path)).arrayBuffer())
}

/** Follows the send-to-device messages and changed device lists of a user. */
const inbox = async (person: Person) => {
  let since = (await person.call("GET", "sync?timeout=0")).next_batch as string
  const events: Array<Body> = []
  const changed: Array<string> = []
  const poll = async () => {
    const answer = await person.call("GET", `sync?timeout=0&since=${encode(since)}`)
    since = answer.next_batch
    events.push(...(answer.to_device?.events ?? []))
    changed.push(...(answer.device_lists?.changed ?? []))
  }
  return {
    received: (type: string, body: string) =>
      until(`${person.id} gets a ${type}`, async () => {
        await poll()
        return events.some((event) => event.type === type && event.content.body === body)
      }),
    sawChange: (of: Person) =>
      until(`${person.id} learns of changed devices of ${of.id}`, async () => {
        await poll()
        return changed.includes(of.id)
      })
  }
}

const sendToDevices = (from: Person, to: Person, body: string) =>
  from.call("PUT", `sendToDevice/org.greenroom.test/${randomUUID()}`, { messages: { [to.id]: { "*": { body } } } })

const deviceNames = async (viewer: Person, whom: Person): Promise<ReadonlyArray<string | undefined>> => {
  const { device_keys } = await viewer.call("POST", "keys/query", { device_keys: { [whom.id]: [] } })
  const devices = Object.values((device_keys?.[whom.id] ?? {}) as Record<string, Body>)
  return devices.map((each) => each.unsigned?.device_display_name)
}

export const moreScenes: ReadonlyArray<Scene> = [
  {
    name: "media",
    isOnce: true,
    run: async ({ alice, bob }) => {
      for (const [owner, other] of [
        [alice, bob],
        [bob, alice]
      ] as const) {
        const bytes = randomBytes(300_000)
        const uri = await upload(owner, bytes)
        if (!(await download(other, uri)).equals(bytes)) throw new Error(`${other.id} gets other bytes`)
      }
    }
  },
  {
    name: "messages to devices, device lists",
    isOnce: true,
    run: async (stage) => {
      const { alice, bob } = stage
      await sharedRoom(stage)
      const [ofAlice, ofBob] = [await inbox(alice), await inbox(bob)]
      for (let i = 0; i < 3; i++) {
        await sendToDevices(alice, bob, `to bob ${i}`)
        await sendToDevices(bob, alice, `to alice ${i}`)
      }
      await ofBob.received("org.greenroom.test", "to bob 2")
      await ofAlice.received("org.greenroom.test", "to alice 2")
      await alice.uploadKeys()
      await ofBob.sawChange(alice)
      await bob.uploadKeys()
      await ofAlice.sawChange(bob)
      for (const [viewer, whom] of [
        [alice, bob],
        [bob, alice]
      ] as const) {
        await until("the device is found", async () => (await deviceNames(viewer, whom)).length === 1)
      }
    }
  },
  { name: "encrypted messages", isOnce: true, run: encryptedMessages },
  {
    name: "public rooms and spaces",
    isOnce: true,
    run: async (stage) => {
      const { alice, bob, founder, tag, version } = stage
      const options = { preset: "public_chat", visibility: "public", room_version: `${version}` }
      const room = await alice.createRoom({ ...options, name: `Tea ${tag}` })
      const space = await alice.createRoom({ ...options, name: `Space ${tag}`, creation_content: { type: "m.space" } })
      await alice.set(space, "m.space.child", { via: [founder.name] }, room)
      await until("the room is listed", async () => {
        const { chunk } = await bob.call("POST", `publicRooms?server=${encode(founder.name)}`, {
          filter: { generic_search_term: `Tea ${tag}` }
        })
        return chunk.some(({ room_id }: Body) => room_id === room)
      })
      await bob.join(space, founder.name)
      const { rooms } = (await (
        await bob.raw("GET", `/_matrix/client/v1/rooms/${encode(space)}/hierarchy`)
      ).json()) as Body
      const found = rooms.map(({ room_id }: Body) => room_id)
      if (!found.includes(space) || !found.includes(room)) throw new Error(`The space shows ${found}`)
    }
  },
  {
    name: "a thousand messages back-filled",
    isOnce: true,
    isLong: true,
    run: async (stage) => {
      const { alice, bob, founder } = stage
      const room = await createRoom(stage)
      const sent = Array.from({ length: 1_000 }, (_, i) => `message ${i}`)
      for (const text of sent) await alice.sendText(room, text)
      await bob.join(room, founder.name)
      await until("all is back-filled", async () => {
        const found = await messagesOf(bob, room)
        return JSON.stringify(found) === JSON.stringify(sent)
      })
    }
  },
  {
    name: "a server that is restored from an older backup",
    isOnce: true,
    isLong: true,
    run: async (stage) => {
      const { alice, bob, other } = stage
      const room = await sharedRoom(stage)
      await exchangeMessages(room, alice, bob)
      await other.restart("backup")
      const [fromAlice, fromBob] = [await alice.sendText(room, "after the backup"), await bob.sendText(room, "of bob")]
      await until("both arrive", async () => (await bob.has(room, fromAlice)) && (await alice.has(room, fromBob)))
      await alice.set(room, "m.room.topic", { topic: "after the backup" })
      await other.restart("restore")
      await until("the events after the backup are received again", async () => {
        await alice.sendText(room, "is anybody there?")
        return (await bob.has(room, fromAlice)) && (await bob.has(room, fromBob))
      })
      await exchangeMessages(room, alice, bob)
      await assertSameState(room, alice, bob)
    }
  },
  {
    name: "users whose removal their server has lost come back",
    isOnce: true,
    isLong: true,
    run: async (stage) => {
      const { alice, bob, founder, other, tag } = stage
      const carl = await other.person(`carl${tag}`)
      const [room, another] = [await sharedRoom(stage), await sharedRoom(stage)]
      await carl.join(another, founder.name)
      await sees(alice, another, carl, "join")
      await other.restart("backup")
      for (const [from, person] of [
        [room, bob],
        [another, bob],
        [another, carl]
      ] as const) {
        await alice.kick(from, person)
        await sees(person, from, person, "leave")
      }
      await other.restart("restore")
      for (const left of [room, another]) {
        await sees(bob, left, bob, "join")
        await bob.leave(left)
        // Greenroom remembers the servers that were in the room.
        await bob.join(left, other.kind === "greenroom" ? undefined : founder.name)
        await sees(alice, left, bob, "join")
        await exchangeMessages(left, alice, bob)
        await assertSameState(left, alice, bob)
      }
    }
  },
  {
    name: "a server that is installed anew under its name",
    isOnce: true,
    isLong: true,
    run: async (stage) => {
      const { alice, founder, other, tag } = stage
      const room = await sharedRoom(stage)
      await other.restart("anew")
      const bob = await other.person(`bob${tag}`)
      await until("bob is in the room again", async () => {
        await bob.join(room, founder.name)
        return true
      })
      // Dendrite drops the new join of a user who is in the room for it, and gets it as an event a moment later.
      await assertSameState(room, alice, bob)
      await exchangeMessages(room, alice, bob)
      await assertSameState(room, alice, bob)
    }
  }
]
