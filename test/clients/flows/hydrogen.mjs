/**
 * Hydrogen in Chromium: alice uses mouse and keyboard, bob is driven by requests. Screenshots of alice's page are kept for
 * inspection by people.
 */
import { randomUUID } from "node:crypto"
import { open } from "./hydrogen/browser.mjs"
import { check, end, fresh, password, roomVersion, serverName, step, until, url } from "./steps.mjs"

const names = { alice: fresh("alice"), bob: fresh("bob") }
let bob
let room
let greeting

/** Sends a request as bob. */
const ask = async (method, path, body, token = bob?.access_token) => {
  const response = await fetch(`${url}/_matrix/client/v3/${path}`, {
    method,
    headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  const answer = await response.json()
  check(response.ok, `${method} ${path}: ${response.status} ${answer.errcode} ${answer.error}`)
  return answer
}

const register = (username) =>
  ask("POST", "register", { username, password, auth: { type: "m.login.dummy" } }, undefined)

const inRoom = (...parts) => ["rooms", room, ...parts].map(encodeURIComponent).join("/")

const says = async (content, type = "m.room.message") =>
  (await ask("PUT", inRoom("send", type, randomUUID()), content)).event_id

const text = (body) => ({ msgtype: "m.text", body })

/** Newest first. */
const timeline = async () => (await ask("GET", `${inRoom("messages")}?dir=b&limit=20`)).chunk

const { browser, page, picture } = await open(url, `${serverName}-${roomVersion}`)

const tile = (name) => page.locator(".RoomList li:not(.hidden)", { hasText: name })
const message = (body) => page.locator(".Timeline_message", { hasText: body })
const type = async (body) => {
  await page.locator(".MessageComposer textarea").fill(body)
  await page.locator(".MessageComposer textarea").press("Enter")
}
const menu = (option) => page.locator(".menu button", { hasText: option }).click()

await step("register", async () => {
  await register(names.alice)
  bob = await register(names.bob)
})

await step("login", async () => {
  await page.fill("#username", names.alice)
  await page.fill("#password", password)
  await picture("login")
  await page.click("button[type=submit]")
  await page.waitForSelector(".LeftPanel")
})

await step("create room", async () => {
  await page.click(".LeftPanel .create")
  await menu("Create Room")
  await page.fill("#name", "Balcony")
  await page.fill("#topic", "flowers")
  await page.uncheck("#isEncrypted")
  await picture("create-room")
  await page.click(".CreateRoomView button[type=submit]")
  // This version of Hydrogen does not open a room that it has just created.
  await tile("Balcony").click()
  await page.waitForSelector(".RoomView .MessageComposer")
  await type("nobody here")
  await message("nobody here").waitFor()
})

await step("invite and join", async () => {
  room = (await ask("POST", "createRoom", { name: "Terrace", topic: "grill", preset: "private_chat" })).room_id
  const { room_version } = await ask("GET", inRoom("state", "m.room.create", ""))
  check(room_version === roomVersion, `the room is of version ${room_version}`)
  for (let count = 0; count < 40; count++) await says(text(`history ${count}`))
  await ask("POST", inRoom("invite"), { user_id: `@${names.alice}:${serverName}` })
  await tile("Terrace").click()
  await page.locator(".InviteView h3", { hasText: "Terrace" }).waitFor()
  await picture("invite")
  await page.click(".InviteView button.primary:not(.destructive)")
  await page.waitForSelector(".RoomView .MessageComposer")
  await message("history 39").waitFor()
})

await step("receive", async () => {
  greeting = await says(text("hello alice"))
  await message("hello alice").waitFor()
})

await step("send", async () => {
  await type("hello from Hydrogen")
  await until(async () => (await timeline()).some(({ content }) => content.body === "hello from Hydrogen"))
  await page.locator(".Timeline_message.own:not(.unsent)", { hasText: "hello from Hydrogen" }).waitFor()
})

await step("edit", async () => {
  const relates = { rel_type: "m.replace", event_id: greeting }
  await says({ ...text("* hello, Alice"), "m.new_content": text("hello, Alice"), "m.relates_to": relates })
  // Hydrogen shows edits as messages of their own.
  await message("* hello, Alice").waitFor()
})

await step("react", async () => {
  await says({ "m.relates_to": { rel_type: "m.annotation", event_id: greeting, key: "🌱" } }, "m.reaction")
  await page.locator(".Timeline_messageReactions button", { hasText: "🌱" }).waitFor()
  await message("hello alice").hover()
  await message("hello alice").locator(".Timeline_messageOptions").click()
  await page.locator(".quick-reactions button", { hasText: "👍" }).click()
  await until(async () => (await timeline()).some((event) => event.content["m.relates_to"]?.key === "👍"))
  await picture("reactions")
})

await step("reply", async () => {
  await message("hello alice").hover()
  await message("hello alice").locator(".Timeline_messageOptions").click()
  await menu("Reply")
  await type("hello yourself")
  const reply = await until(async () => (await timeline()).find(({ content }) => /hello yourself/.test(content.body)))
  check(reply.content["m.relates_to"]["m.in_reply_to"].event_id === greeting, "the reply is to something else")
})

await step("redact", async () => {
  const oops = await says(text("oops"))
  await message("oops").waitFor()
  await ask("PUT", inRoom("redact", oops, randomUUID()), { reason: "typo" })
  await page.locator(".Timeline_messageBody.statusMessage", { hasText: "deleted" }).waitFor()
  await message("hello from Hydrogen").hover()
  await message("hello from Hydrogen").locator(".Timeline_messageOptions").click()
  await menu("Delete")
  await until(async () => (await timeline()).every(({ content }) => content.body !== "hello from Hydrogen"))
  await picture("redacted")
})

await step("unread counts", async () => {
  await tile("Balcony").click()
  await message("nobody here").waitFor()
  await says(text("are you there?"))
  await tile("Terrace").locator(".badge:not(.hidden)").waitFor()
  await picture("unread")
})

await step("receipts", async () => {
  const last = await says(text("have you read this?"))
  let { next_batch: since } = await ask("GET", "sync")
  await tile("Terrace").click()
  await message("have you read this?").waitFor()
  const seen = ({ content }) => content[last]?.["m.read"]?.[`@${names.alice}:${serverName}`] !== undefined
  await until(async () => {
    const { next_batch, rooms } = await ask("GET", `sync?timeout=5000&since=${encodeURIComponent(since)}`)
    since = next_batch
    return rooms?.join?.[room]?.ephemeral?.events.some((event) => event.type === "m.receipt" && seen(event))
  })
  await tile("Terrace").locator(".badge.hidden").waitFor({ state: "attached" })
})

await step("history", async () => {
  await until(async () => {
    await page.locator(".Timeline_scroller").hover()
    await page.mouse.wheel(0, -2000)
    return (await message("history 0").count()) > 0
  })
})

await step("members", async () => {
  await page.click(".room-options")
  await menu("Room details")
  await page.locator(".RoomDetailsView_row", { hasText: "People" }).click()
  await page.locator(".MemberListView__list li", { hasText: names.bob }).waitFor()
  await picture("members")
})

await step("reload", async () => {
  await page.reload()
  await tile("Terrace").click()
  await says(text("after the reload"))
  await message("after the reload").waitFor()
})

await step("leave", async () => {
  page.once("dialog", (dialog) => dialog.accept())
  await page.click(".room-options")
  await menu("Leave room")
  await until(
    async () =>
      (await ask("GET", inRoom("state", "m.room.member", `@${names.alice}:${serverName}`))).membership === "leave"
  )
})

await step("logout", async () => {
  await page.click(".LeftPanel .settings")
  await page.locator("button", { hasText: "Log out" }).click()
  await page.locator(".LogoutScreen button", { hasText: "Log out" }).click()
  await page.waitForSelector(".PreSessionScreen")
  await picture("logged-out")
})

await browser.close()
end()
