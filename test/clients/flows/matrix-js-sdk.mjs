/**
 * matrix-js-sdk, the library of Element Web: two users that sync, send messages, and manage rooms, spaces, push rules and devices.
 */
import { ClientEvent, createClient, EventTimeline, RelationType, SyncState } from "matrix-js-sdk"
import { logger } from "matrix-js-sdk/lib/logger.js"
import { check, end, fresh, otherVersion, password, roomVersion, serverName, step, until, url } from "./steps.mjs"

logger.setLevel("silent")

const names = { alice: fresh("alice"), bob: fresh("bob") }
let alice
let bob
let room
let hello

/** Registers as Element does: the 401 names the session, which the next request completes. */
const register = async (username) => {
  const client = createClient({ baseUrl: url })
  const data = { username, password, initial_device_display_name: "js" }
  const { session } = await client.registerRequest(data).then(
    () => ({}),
    (error) => {
      check(error.httpStatus === 401 && error.data.flows.length > 0, error.message)
      return error.data
    }
  )
  const account = await client.registerRequest({ ...data, auth: { type: "m.login.dummy", session } })
  check(account.user_id === `@${username}:${serverName}`, `the user ID is ${account.user_id}`)
  return account
}

const clientOf = ({ access_token: accessToken, device_id: deviceId, user_id: userId }) =>
  createClient({ baseUrl: url, accessToken, deviceId, userId, timelineSupport: true })

const sync = async (client) => {
  const prepared = new Promise((resolve, reject) =>
    client.on(ClientEvent.Sync, (state, _, data) => {
      if (state === SyncState.Prepared) resolve()
      if (state === SyncState.Error) reject(data.error)
    })
  )
  await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true, threadSupport: true })
  await prepared
}

const stateOf = (client, id) => client.getRoom(id)?.getLiveTimeline().getState(EventTimeline.FORWARDS)

/** Waits until the client has the event of this ID in the room's timeline. */
const received = (client, id, eventId) => until(() => client.getRoom(id)?.findEventById(eventId))

const message = (body) => ({ msgtype: "m.text", body })

await step("register", async () => {
  alice = clientOf(await register(names.alice))
  bob = clientOf(await register(names.bob))
  const { user_id } = await alice.whoami()
  check(user_id === alice.getUserId(), `whoami says ${user_id}`)
})

await step("login", async () => {
  const account = await createClient({ baseUrl: url }).loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: names.alice },
    password,
    initial_device_display_name: "js, second"
  })
  check(account.device_id !== alice.getDeviceId(), "the second device has the ID of the first")
})

await step("sync", async () => {
  await sync(alice)
  await sync(bob)
})

await step("profile", async () => {
  await alice.setDisplayName("Alice")
  const { displayname } = await bob.getProfileInfo(alice.getUserId())
  check(displayname === "Alice", `the name is ${displayname}`)
})

await step("capabilities", async () => {
  const versions = (await alice.getCapabilities())["m.room_versions"]
  check(versions.default === roomVersion, `rooms are of version ${versions.default}`)
  check(versions.available[otherVersion] === "stable", `version ${otherVersion} is not there`)
})

await step("create room", async () => {
  room = (await alice.createRoom({ preset: "private_chat", name: "Kitchen", topic: "food" })).room_id
  await until(() => alice.getRoom(room)?.name === "Kitchen")
  check(alice.getRoom(room).getVersion() === roomVersion, `the room is of version ${alice.getRoom(room).getVersion()}`)
})

await step("invite and join", async () => {
  await alice.invite(room, bob.getUserId())
  await until(() => bob.getRoom(room)?.getMyMembership() === "invite")
  check(bob.getRoom(room).name === "Kitchen", `the invitation is to ${bob.getRoom(room).name}`)
  await bob.joinRoom(room)
  await until(() => alice.getRoom(room).getMember(bob.getUserId())?.membership === "join")
})

await step("send", async () => {
  hello = (await alice.sendTextMessage(room, "hello bob")).event_id
  const event = await received(bob, room, hello)
  check(event.getContent().body === "hello bob", "the text is another one")
  await until(() => alice.getRoom(room).findEventById(hello)?.status === null)
})

await step("edit", async () => {
  await alice.sendMessage(room, {
    ...message("* hello, Bob"),
    "m.new_content": message("hello, Bob"),
    "m.relates_to": { rel_type: RelationType.Replace, event_id: hello }
  })
  await until(() => bob.getRoom(room).findEventById(hello)?.getContent().body === "hello, Bob")
  const { unsigned } = await bob.fetchRoomEvent(room, hello)
  const replacement = unsigned["m.relations"]["m.replace"]
  check(replacement.content["m.new_content"].body === "hello, Bob", "the edit is not bundled")
})

await step("react", async () => {
  const relates = { rel_type: "m.annotation", event_id: hello, key: "👍" }
  await bob.sendEvent(room, "m.reaction", { "m.relates_to": relates })
  const { events } = await until(async () => {
    const found = await alice.relations(room, hello, "m.annotation", "m.reaction")
    return found.events.length > 0 && found
  })
  check(events[0].getContent()["m.relates_to"].key === "👍", "the reaction is another one")
})

await step("thread", async () => {
  const relates = { rel_type: "m.thread", event_id: hello, is_falling_back: true, "m.in_reply_to": { event_id: hello } }
  await bob.sendMessage(room, { ...message("in a thread"), "m.relates_to": relates })
  const thread = await until(() => alice.getRoom(room).getThread(hello))
  await until(() => thread.length === 1)
  const { chunk } = await alice.createThreadListMessagesRequest(room, null)
  check(chunk[0].event_id === hello, "the list of threads does not have it")
  check(chunk[0].unsigned["m.relations"]["m.thread"].count === 1, "the thread is not summarised")
})

await step("redact", async () => {
  const { event_id } = await bob.sendTextMessage(room, "oops")
  await received(alice, room, event_id)
  await bob.redactEvent(room, event_id, undefined, { reason: "typo" })
  await until(() => alice.getRoom(room).findEventById(event_id)?.isRedacted())
})

await step("unread counts", async () => {
  await alice.sendTextMessage(room, "unread")
  await until(() => bob.getRoom(room).getUnreadNotificationCount("total") > 0)
})

await step("receipts", async () => {
  const { event_id } = await alice.sendTextMessage(room, "read this")
  const event = await received(bob, room, event_id)
  await bob.sendReadReceipt(event)
  await until(() => alice.getRoom(room).getEventReadUpTo(bob.getUserId()) === event_id)
  await until(() => bob.getRoom(room).getUnreadNotificationCount("total") === 0)
  await bob.setRoomReadMarkers(room, event_id, event)
})

await step("typing", async () => {
  await bob.sendTyping(room, true, 20_000)
  await until(() => alice.getRoom(room).getMember(bob.getUserId()).typing)
  await bob.sendTyping(room, false, 0)
  await until(() => !alice.getRoom(room).getMember(bob.getUserId()).typing)
})

await step("history", async () => {
  for (let count = 0; count < 25; count++) await alice.sendTextMessage(room, `line ${count}`)
  const late = clientOf(await register(fresh("late")))
  await alice.invite(room, late.getUserId())
  await sync(late)
  await late.joinRoom(room)
  await until(() => late.getRoom(room)?.getMyMembership() === "join")
  const before = late.getRoom(room).timeline.length
  await late.scrollback(late.getRoom(room), 50)
  check(late.getRoom(room).timeline.length > before, "no history came")
  const timeline = await late.getEventTimeline(late.getRoom(room).getUnfilteredTimelineSet(), hello)
  check(
    timeline.getEvents().some((event) => event.getId() === hello),
    "the context does not have the event"
  )
  late.stopClient()
  await late.leave(room)
})

await step("search", async () => {
  const { count, results } = await until(async () => {
    const found = await bob.searchRoomEvents({ term: "oranges", filter: { rooms: [room] } })
    if (found.count > 0) return found
    await alice.sendTextMessage(room, "apples and oranges")
    return undefined
  })
  check(count > 0, "nothing is found")
  check(results[0].context.getEvent().getContent().body === "apples and oranges", "something else is found")
})

await step("space", async () => {
  const { room_id: space } = await alice.createRoom({ name: "House", creation_content: { type: "m.space" } })
  await alice.sendStateEvent(space, "m.space.child", { via: [serverName] }, room)
  const { rooms } = await alice.getRoomHierarchy(space)
  check(rooms.length === 2 && rooms[1].room_id === room, `the space has ${rooms.map(({ name }) => name)}`)
})

await step("directory", async () => {
  const local = fresh("garden")
  const { room_id } = await bob.createRoom({
    preset: "public_chat",
    visibility: "public",
    room_alias_name: local,
    name: local
  })
  const alias = `#${local}:${serverName}`
  check((await alice.getRoomIdForAlias(alias)).room_id === room_id, "the alias is of another room")
  const { chunk } = await alice.publicRooms({ limit: 10, filter: { generic_search_term: local } })
  check(chunk[0]?.room_id === room_id, "the room is not in the directory")
  await alice.joinRoom(alias)
  const { results } = await until(async () => {
    const found = await alice.searchUserDirectory({ term: names.bob })
    return found.results.length > 0 && found
  })
  check(results[0].user_id === bob.getUserId(), "the user directory has somebody else")
})

await step("push rules", async () => {
  await bob.addPushRule("global", "content", "oranges", {
    pattern: "oranges",
    actions: ["notify", { set_tweak: "highlight" }]
  })
  const { global } = await bob.getPushRules()
  check(
    global.content.some((rule) => rule.rule_id === "oranges" && rule.enabled),
    "the rule is not there"
  )
  await alice.sendTextMessage(room, "two oranges")
  await until(() => bob.getRoom(room).getUnreadNotificationCount("highlight") > 0)
  await bob.setPushRuleEnabled("global", "content", "oranges", false)
  await bob.deletePushRule("global", "content", "oranges")
})

await step("tags and account data", async () => {
  await alice.setRoomTag(room, "m.favourite", { order: 0.5 })
  await until(() => alice.getRoom(room).tags["m.favourite"]?.order === 0.5)
  await alice.setAccountData("org.example.setting", { dark: true })
  await until(() => alice.getAccountData("org.example.setting")?.getContent().dark)
})

await step("moderation", async () => {
  await alice.kick(room, bob.getUserId(), "loud")
  await until(() => bob.getRoom(room).getMyMembership() === "leave")
  await alice.invite(room, bob.getUserId())
  await bob.joinRoom(room)
  await alice.ban(room, bob.getUserId())
  await until(() => bob.getRoom(room).getMyMembership() === "ban")
  await alice.unban(room, bob.getUserId())
  await alice.invite(room, bob.getUserId())
  await bob.joinRoom(room)
  await alice.setPowerLevel(room, bob.getUserId(), 50)
  await until(() => stateOf(bob, room).getMember(bob.getUserId())?.powerLevel === 50)
})

await step("upgrade", async () => {
  const { replacement_room } = await alice.upgradeRoom(room, otherVersion)
  await until(() => alice.getRoom(replacement_room)?.getVersion() === otherVersion)
  check(alice.getRoom(replacement_room).findPredecessor().roomId === room, "the new room does not name the old one")
  await until(
    () => stateOf(bob, room).getStateEvents("m.room.tombstone", "")?.getContent().replacement_room === replacement_room
  )
})

await step("devices", async () => {
  const { devices } = await alice.getDevices()
  check(devices.length === 2, `there are ${devices.length} devices`)
  const second = devices.find(({ device_id }) => device_id !== alice.getDeviceId()).device_id
  await alice.setDeviceDetails(second, { display_name: "renamed" })
  const { session } = await alice.deleteDevice(second).then(
    () => ({}),
    (error) => error.data
  )
  const identifier = { type: "m.id.user", user: alice.getUserId() }
  await alice.deleteDevice(second, { type: "m.login.password", identifier, password, session })
  check((await alice.getDevices()).devices.length === 1, "the device is still there")
})

await step("leave and forget", async () => {
  await bob.leave(room)
  await until(() => bob.getRoom(room).getMyMembership() === "leave")
  await bob.forget(room)
})

await step("logout", async () => {
  bob.stopClient()
  await bob.logout()
  const refused = await bob.whoami().catch((error) => error)
  check(refused.errcode === "M_UNKNOWN_TOKEN", "the token still works")
})

end()
