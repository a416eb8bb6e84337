/**
 * A bridge of matrix-bot-sdk to a network that is its own standard input and output, a line of JSON for each message:
 * `{ channel, user, text }` comes in, `{ channel, sender, text }` goes out, and `{ channel, typing }` where people type. A
 * channel is the room with the alias `#net_<channel>`, which is made when someone looks for it; the users of the network are
 * `@net_<user>`. Its argument is a file of settings, which the test writes.
 */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { createInterface } from "node:readline"

const { Appservice, LogLevel, LogService, SimpleFsStorageProvider } = createRequire(
  new URL("../../clients/package.json", import.meta.url)
)("matrix-bot-sdk")

LogService.setLevel(LogLevel.ERROR)

const { homeserverName, homeserverUrl, port, registration, storage } = JSON.parse(readFileSync(process.argv[2], "utf8"))
const bridge = new Appservice({
  bindAddress: "127.0.0.1",
  port,
  homeserverName,
  homeserverUrl,
  registration,
  storage: new SimpleFsStorageProvider(storage)
})

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)

bridge.on("query.user", (_userId, create) => create({ display_name: "Somebody on the network" }))

bridge.on("query.room", (alias, create) =>
  create({
    preset: "public_chat",
    name: bridge.getSuffixForAlias(alias),
    room_alias_name: alias.slice(1).split(":")[0]
  })
)

/** The channel of a room, by its alias. */
const channelOf = async (roomId) => {
  const { alias } = await bridge.botClient.getRoomStateEvent(roomId, "m.room.canonical_alias", "")
  return bridge.getSuffixForAlias(alias)
}

/** The messages are delivered one after the other: the library waits for no listener. */
let delivered = Promise.resolve()
bridge.on("room.message", (roomId, event) => {
  if (bridge.isNamespacedUser(event.sender)) return
  delivered = delivered.then(async () =>
    say({ channel: await channelOf(roomId), sender: event.sender, text: event.content.body })
  )
})

bridge.on("ephemeral.event", async (event) => {
  if (event.type !== "m.typing" || event.content.user_ids.length === 0) return
  say({ channel: await channelOf(event.room_id), typing: event.content.user_ids })
})

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { channel, text, user } = JSON.parse(line)
  const roomId = await bridge.botClient.resolveRoom(bridge.getAliasForSuffix(channel))
  const intent = bridge.getIntentForSuffix(user)
  await intent.ensureRegisteredAndJoined(roomId)
  await intent.sendText(roomId, text)
})

await bridge.begin()
say({ ready: true })
