/**
 * matrix-js-sdk by simplified sliding sync: the client of alice syncs a window of rooms and then widens it, that of bob uses /sync.
 */
import { ClientEvent, createClient, EventTimeline, SyncState } from "matrix-js-sdk"
import { logger } from "matrix-js-sdk/lib/logger.js"
import { SlidingSync, SlidingSyncEvent } from "matrix-js-sdk/lib/sliding-sync.js"
import { check, end, fresh, password, roomVersion, step, until, url } from "./steps.mjs"

logger.setLevel("silent")

let alice
let bob
let sliding
let room
const rooms = []

const register = async (name) => {
  const account = await createClient({ baseUrl: url }).registerRequest({
    username: fresh(name),
    password,
    auth: { type: "m.login.dummy" }
  })
  return createClient({
    baseUrl: url,
    accessToken: account.access_token,
    deviceId: account.device_id,
    userId: account.user_id,
    timelineSupport: true
  })
}

const prepared = (client) =>
  new Promise((resolve, reject) =>
    client.on(ClientEvent.Sync, (state, _, data) => {
      if (state === SyncState.Prepared || state === SyncState.Syncing) resolve()
      if (state === SyncState.Error) reject(data.error)
    })
  )

const stateOf = (id) => alice.getRoom(id)?.getLiveTimeline().getState(EventTimeline.FORWARDS)

const list = (to) => ({
  ranges: [[0, to]],
  timeline_limit: 5,
  required_state: [
    ["m.room.create", ""],
    ["m.room.name", ""],
    ["m.room.topic", ""],
    ["m.room.encryption", ""],
    ["m.room.power_levels", ""],
    ["m.room.member", "$ME"],
    ["m.room.member", "$LAZY"]
  ],
  filters: { not_room_types: ["m.space"] }
})

/** The length of the list, as the server states it. */
const count = () => sliding.getListData("all")?.joinedCount

await step("register", async () => {
  alice = await register("alice")
  bob = await register("bob")
})

await step("announced", async () => {
  check(await alice.doesServerSupportUnstableFeature("org.matrix.simplified_msc3575"), "the feature is not announced")
})

await step("create rooms", async () => {
  for (let number = 0; number < 4; number++) {
    rooms.push((await alice.createRoom({ preset: "private_chat", name: `room ${number}` })).room_id)
  }
  room = rooms.at(-1)
  await alice.createRoom({ name: "space", creation_content: { type: "m.space" } })
})

await step("first window", async () => {
  sliding = new SlidingSync(
    url,
    new Map([["all", list(1)]]),
    { timeline_limit: 20, required_state: [["*", "*"]] },
    alice,
    20_000
  )
  const ready = prepared(alice)
  await alice.startClient({ slidingSync: sliding, lazyLoadMembers: true, threadSupport: true })
  await ready
  await until(() => alice.getRoom(rooms[3])?.name === "room 3" && alice.getRoom(rooms[2])?.name === "room 2")
  check(count() === 4, `the list has ${count()} rooms`)
  check(alice.getRoom(rooms[0]) === null, "a room outside of the window was sent")
  check(alice.getRoom(room).getVersion() === roomVersion, `the room is of version ${alice.getRoom(room).getVersion()}`)
})

await step("wider window", async () => {
  sliding.setListRanges("all", [[0, 99]])
  await until(() => rooms.every((id) => alice.getRoom(id) !== null))
})

await step("invite and join", async () => {
  await bob.startClient({ initialSyncLimit: 10 })
  await alice.invite(room, bob.getUserId())
  await bob.joinRoom(room)
  await until(() => stateOf(room).getMember(bob.getUserId())?.membership === "join")
  await until(() => alice.getRoom(room).getJoinedMemberCount() === 2)
})

await step("receive", async () => {
  const { event_id } = await bob.sendTextMessage(room, "hello by sliding sync")
  await until(() => alice.getRoom(room).findEventById(event_id)?.getContent().body === "hello by sliding sync")
})

await step("send", async () => {
  const { event_id } = await alice.sendTextMessage(room, "hello bob")
  await until(() => alice.getRoom(room).findEventById(event_id)?.status === null)
  await until(() => bob.getRoom(room)?.findEventById(event_id))
})

await step("state", async () => {
  await alice.setRoomTopic(room, "windows")
  await until(() => stateOf(room).getStateEvents("m.room.topic", "")?.getContent().topic === "windows")
})

await step("subscribe", async () => {
  for (let number = 0; number < 12; number++) await bob.sendTextMessage(room, `line ${number}`)
  const finished = new Promise((resolve) =>
    sliding.on(SlidingSyncEvent.RoomData, (id) => {
      if (id === room) resolve()
    })
  )
  sliding.modifyRoomSubscriptions(new Set([room]))
  await finished
  await until(() => alice.getRoom(room).timeline.length >= 12)
})

await step("receipts and typing", async () => {
  const { event_id } = await alice.sendTextMessage(room, "read this")
  await until(() => bob.getRoom(room)?.findEventById(event_id))
  await bob.sendReadReceipt(bob.getRoom(room).findEventById(event_id))
  await until(() => alice.getRoom(room).getEventReadUpTo(bob.getUserId()) === event_id)
  await bob.sendTyping(room, true, 20_000)
  await until(() => alice.getRoom(room).getMember(bob.getUserId())?.typing)
})

await step("account data", async () => {
  await alice.setAccountData("org.example.setting", { dark: true })
  await until(() => alice.getAccountData("org.example.setting")?.getContent().dark)
  await alice.setRoomTag(room, "m.favourite", { order: 0.5 })
  await until(() => alice.getRoom(room).tags["m.favourite"]?.order === 0.5)
})

await step("invitation", async () => {
  const { room_id } = await bob.createRoom({ name: "bob's", invite: [alice.getUserId()] })
  await until(() => alice.getRoom(room_id)?.getMyMembership() === "invite")
  await alice.joinRoom(room_id)
  await until(() => alice.getRoom(room_id)?.getMyMembership() === "join")
  check(count() === 5, `the list has ${count()} rooms`)
})

await step("messages to the device", async () => {
  const got = new Promise((resolve) => alice.on(ClientEvent.ToDeviceEvent, (event) => resolve(event)))
  const content = { hello: "device" }
  await bob.queueToDevice({
    eventType: "org.example.hello",
    batch: [{ userId: alice.getUserId(), deviceId: alice.getDeviceId(), payload: content }]
  })
  const event = await got
  check(event.getContent().hello === "device", "another message came")
})

await step("leave", async () => {
  await alice.leave(rooms[0])
  await until(() => count() === 4)
  await until(() => alice.getRoom(rooms[0])?.getMyMembership() !== "join")
})

alice?.stopClient()
bob?.stopClient()
end()
