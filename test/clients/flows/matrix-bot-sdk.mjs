/**
 * matrix-bot-sdk: a bot that accepts invitations and answers commands, and a user that moderates rooms, both with this library.
 */
import {
  AutojoinRoomsMixin,
  LogService,
  MatrixAuth,
  MatrixClient,
  MemoryStorageProvider,
  RichRepliesPreprocessor
} from "matrix-bot-sdk"
import { check, end, fresh, otherVersion, password, roomVersion, serverName, step, until, url } from "./steps.mjs"

LogService.muteModule("MatrixClientLite")
LogService.muteModule("MatrixHttpClient")
LogService.muteModule("Metrics")

const names = { alice: fresh("alice"), bot: fresh("bot") }
const auth = new MatrixAuth(url)
const heard = { alice: [], bot: [] }
let alice
let bot
let botId
let room
let command

/** A client with the access token of another one and a store of its own. */
const withStore = (client) => new MatrixClient(url, client.accessToken, new MemoryStorageProvider())

/** Waits for an event that the client of `who` has received by sync. */
const hears = (who, holds) => until(() => heard[who].find(({ roomId, event }) => holds(event, roomId)))

const listen = (client, who) => {
  for (const kind of ["room.event", "room.message", "room.invite", "room.leave"]) {
    client.on(kind, (roomId, event) => heard[who].push({ kind, roomId, event }))
  }
}

await step("register", async () => {
  alice = withStore(await auth.passwordRegister(names.alice, password, "moderator"))
  bot = withStore(await auth.passwordRegister(names.bot, password, "bot"))
  botId = await bot.getUserId()
  check(botId === `@${names.bot}:${serverName}`, `the user ID is ${botId}`)
})

await step("login", async () => {
  const again = await auth.passwordLogin(names.bot, password, "bot, second")
  check((await again.getWhoAmI()).user_id === botId, "whoami says somebody else")
})

await step("sync", async () => {
  AutojoinRoomsMixin.setupOnClient(bot)
  bot.addPreprocessor(new RichRepliesPreprocessor())
  bot.on("room.message", async (roomId, event) => {
    if (event.content?.body === "!ping") await bot.replyText(roomId, event, "pong")
  })
  listen(alice, "alice")
  listen(bot, "bot")
  await alice.start()
  await bot.start()
})

await step("profile", async () => {
  await bot.setDisplayName("Pinger")
  const { displayname } = await alice.getUserProfile(botId)
  check(displayname === "Pinger", `the name is ${displayname}`)
})

await step("create room", async () => {
  room = await alice.createRoom({
    preset: "private_chat",
    name: "Commands",
    initial_state: [{ type: "org.example.settings", state_key: "", content: { on: true } }]
  })
  const { room_version } = await alice.getRoomStateEvent(room, "m.room.create", "")
  check(room_version === roomVersion, `the room is of version ${room_version}`)
  check((await alice.getRoomStateEvent(room, "org.example.settings", "")).on, "the initial state is not there")
})

await step("invite and join", async () => {
  await alice.inviteUser(botId, room)
  await hears(
    "alice",
    (event) => event.type === "m.room.member" && event.state_key === botId && event.content.membership === "join"
  )
  check((await bot.getJoinedRooms()).includes(room), "the bot is not in the room")
  check((await alice.getJoinedRoomMembers(room)).length === 2, "there are not two members")
})

await step("command and reply", async () => {
  command = await alice.sendText(room, "!ping")
  const { event } = await hears("alice", ({ content, sender }) => sender === botId && /pong/.test(content?.body))
  check(event.content["m.relates_to"]["m.in_reply_to"].event_id === command, "the answer is to something else")
})

await step("edit", async () => {
  await alice.sendMessage(room, {
    msgtype: "m.text",
    body: "* !pong",
    "m.new_content": { msgtype: "m.text", body: "!pong" },
    "m.relates_to": { rel_type: "m.replace", event_id: command }
  })
  const { unsigned } = await bot.getRawEvent(room, command)
  check(unsigned["m.relations"]["m.replace"] !== undefined, "the edit is not bundled")
})

await step("react", async () => {
  await bot.sendEvent(room, "m.reaction", {
    "m.relates_to": { rel_type: "m.annotation", event_id: command, key: "✅" }
  })
  const { chunk } = await alice.getRelationsForEvent(room, command, "m.annotation", "m.reaction")
  check(chunk.length === 1, `there are ${chunk.length} reactions`)
})

await step("thread", async () => {
  const relates = { rel_type: "m.thread", event_id: command }
  await bot.sendMessage(room, { msgtype: "m.notice", body: "log", "m.relates_to": relates })
  const { chunk } = await alice.getRelationsForEvent(room, command, "m.thread")
  check(chunk[0].content.body === "log", "the thread does not have the message")
})

await step("redact", async () => {
  const notice = await bot.sendNotice(room, "oops")
  await hears("alice", (event) => event.event_id === notice)
  await alice.redactEvent(room, notice, "noise")
  await hears("bot", (event) => event.type === "m.room.redaction")
  check((await bot.getRawEvent(room, notice)).content.body === undefined, "the text is still there")
})

await step("receipts and typing", async () => {
  await bot.sendReadReceipt(room, command)
  await bot.setTyping(room, true, 5000)
  await bot.setTyping(room, false)
})

await step("state and context", async () => {
  await alice.sendStateEvent(room, "m.room.topic", "", { topic: "ping, please" })
  await hears("bot", (event) => event.type === "m.room.topic" && event.content.topic === "ping, please")
  const state = await bot.getRoomState(room)
  check(
    state.some((event) => event.type === "m.room.create"),
    "the state has no create event"
  )
  const context = await bot.getEventContext(room, command, 10)
  check(context.event.eventId === command, "the context is of another event")
  check((await bot.getRoomMembersByMembership(room, "join")).length === 2, "there are not two members")
})

await step("levels", async () => {
  await alice.setUserPowerLevel(botId, room, 50)
  check(await bot.userHasPowerLevelFor(botId, room, "m.room.topic", true), "the bot may not set the topic")
  await bot.sendStateEvent(room, "m.room.topic", "", { topic: "set by the bot" })
})

await step("directory", async () => {
  const alias = `#${fresh("commands")}:${serverName}`
  await alice.createRoomAlias(alias, room)
  check((await bot.resolveRoom(alias)) === room, "the alias is of another room")
  await alice.setDirectoryVisibility(room, "public")
  check((await bot.getDirectoryVisibility(room)) === "public", "the room is not public")
  await alice.deleteRoomAlias(alias)
})

await step("space", async () => {
  const options = { name: "Bots", isPublic: false, invites: [] }
  // The library names the creator in the power levels of a space, which version 12 forbids.
  const space =
    roomVersion === "12"
      ? await alice.getSpace(await alice.createRoom({ name: options.name, creation_content: { type: "m.space" } }))
      : await alice.createSpace(options)
  await space.addChildRoom(room)
  const children = await space.getChildEntities()
  check(children[room] !== undefined, "the space does not have the room")
})

await step("account data", async () => {
  await bot.setAccountData("org.example.bot", { started: 1 })
  check((await bot.getAccountData("org.example.bot")).started === 1, "the account data is another")
  await bot.setRoomAccountData("org.example.bot", room, { seen: command })
  check((await bot.getRoomAccountData("org.example.bot", room)).seen === command, "the account data is another")
})

await step("presence", async () => {
  await bot.setPresenceStatus("online", "at your service")
  const presence = await alice.getPresenceStatusFor(botId)
  check(presence.statusMessage === "at your service", `the status is ${presence.statusMessage}`)
})

await step("moderation", async () => {
  await alice.kickUser(botId, room, "restart")
  await hears("bot", (event, id) => id === room && event.content?.membership === "leave" && event.state_key === botId)
  await alice.banUser(botId, room, "broken")
  await alice.unbanUser(botId, room)
  await alice.inviteUser(botId, room)
  await until(async () => (await alice.getJoinedRoomMembers(room)).includes(botId))
})

await step("upgrade", async () => {
  const next = await alice.doRequest("POST", `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/upgrade`, null, {
    new_version: otherVersion
  })
  const { newer } = await alice.getRoomUpgradeHistory(room)
  check(newer.length > 0 && newer[0].roomId === next.replacement_room, "the room has no successor")
})

await step("devices", async () => {
  const devices = await bot.getOwnDevices()
  check(devices.length === 2, `there are ${devices.length} devices`)
})

await step("leave and forget", async () => {
  await bot.leaveRoom(room)
  await bot.forgetRoom(room)
  check(!(await bot.getJoinedRooms()).includes(room), "the bot is still in the room")
})

await step("logout", async () => {
  bot.stop()
  alice.stop()
  await bot.doRequest("POST", "/_matrix/client/v3/logout")
  const refused = await bot.getWhoAmI().catch((error) => error)
  check(refused.errcode === "M_UNKNOWN_TOKEN", "the token still works")
})

end()
