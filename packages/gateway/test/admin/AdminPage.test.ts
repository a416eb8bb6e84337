import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Layer } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { Browser, phone, picture, visit } from "../login/Browser.ts"
import { ask, askToday, createRoom, gateway, inPath, register } from "../TestGateway.ts"
import { registerAdmin } from "./TestAdmin.ts"

const path = "/_greenroom/admin"

layer(Layer.merge(gateway, Browser.layer), { excludeTestServices: true })("the administration page", (it) => {
  it.effect("refuses users without administrator rights, and logs them out again", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const user = yield* register("plain")
      const { page } = yield* visit(`${url}${path}`)
      yield* Effect.promise(async () => {
        await page.getByLabel("User name").fill("plain")
        await page.getByLabel("Password").fill("secret-plain")
        await page.keyboard.press("Enter")
        await page.getByRole("alert").getByText("Only administrators may call this endpoint").waitFor()
      })
      const { body } = yield* askToday("GET", "/v3/devices", { token: user.token })
      assert.lengthOf(body.devices as ReadonlyArray<unknown>, 1)
    })
  )

  it.effect("shows users, rooms, reports and the audit log, and is operated by keyboard", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const admin = yield* registerAdmin("chief")
      const user = yield* register("carla")
      yield* ask("PUT", `/profile/${inPath(user.id)}/displayname`, {
        token: user.token,
        json: { displayname: "<img src=x onerror=alert(1)> Carla" }
      })
      const newcomer = "@newcomer:green.test" as UserId
      yield* AccountStore.use((store) => store.create(newcomer, { awaitingApproval: true }))
      const room = yield* createRoom(user, { name: "Carla's cellar" })
      yield* askToday("POST", `/v3/rooms/${inPath(room)}/report`, {
        token: admin.token,
        json: { reason: "loud music" }
      })
      const headers = (yield* ask("GET", `/${path}`)).headers
      assert.include(headers.get("content-security-policy"), "default-src 'none'")
      const { complaints, page } = yield* visit(`${url}${path}`)
      yield* Effect.promise(async () => {
        await page.locator(":focus").waitFor()
        await page.keyboard.type("chief")
        await page.keyboard.press("Tab")
        await page.keyboard.type("secret-chief")
        await page.keyboard.press("Enter")
        await page.getByRole("cell", { name: "@carla:green.test", exact: true }).waitFor()
      })
      yield* picture(page, "admin-users")
      yield* Effect.promise(async () => {
        await page.getByRole("button", { name: "Lock @carla:green.test" }).press("Enter")
        await page.getByRole("button", { name: "Unlock @carla:green.test" }).waitFor()
        await page.getByRole("button", { name: "Waiting" }).press("Enter")
        await page.getByRole("button", { name: "Approve @newcomer:green.test" }).press("Enter")
        await page.getByText("No entries.").waitFor()
        await page.getByRole("button", { name: "Reports" }).press("Enter")
        await page.getByText("loud music").waitFor()
        await page.getByRole("button", { name: /^Done/ }).click()
        await page.getByText("No entries.").waitFor()
        await page.getByRole("button", { name: "Rooms" }).click()
        await page.getByRole("button", { name: "Shut down Carla's cellar" }).click()
        await page.getByRole("dialog").waitFor()
      })
      yield* picture(page, "admin-shut-down")
      yield* Effect.promise(async () => {
        await page.keyboard.press("Escape")
        await page.getByRole("button", { name: "Shut down Carla's cellar" }).click()
        await page.getByRole("button", { name: "Yes" }).click()
        await page.getByText("No entries.").waitFor()
        await page.getByRole("button", { name: "Servers" }).click()
        await page.getByRole("heading", { name: "Servers" }).waitFor()
        await page.getByRole("button", { name: "Audit" }).click()
        await page.getByText("The audit log is intact").waitFor()
        const deletion = page
          .getByRole("row")
          .filter({ has: page.getByRole("cell", { name: "room.delete", exact: true }) })
        await deletion.getByRole("cell", { name: '{"block":true,"purge":true}' }).waitFor()
      })
      yield* picture(page, "admin-audit")
      yield* Effect.promise(async () => {
        await page.getByRole("button", { name: "Log out" }).click()
        await page.getByLabel("User name").waitFor()
      })
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("asks to log in again when the session has ended, and then shows the same list", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const admin = yield* registerAdmin("chief3")
      const { page } = yield* visit(`${url}${path}`)
      const logIn = async () => {
        await page.getByLabel("User name").fill("chief3")
        await page.getByLabel("Password").fill("secret-chief3")
        await page.keyboard.press("Enter")
      }
      yield* Effect.promise(async () => {
        await logIn()
        await page.getByRole("button", { name: "Rooms" }).click()
        await page.getByRole("heading", { name: "Rooms" }).waitFor()
      })
      yield* ask("POST", "/logout/others", { token: admin.token, json: {} })
      yield* Effect.promise(async () => {
        await page.getByRole("button", { name: "Search" }).click()
        await page.getByRole("alert").getByText("You are logged out. Log in again.").waitFor()
        await page.getByLabel("User name").and(page.locator(":focus")).waitFor()
        await logIn()
        await page.getByRole("heading", { name: "Rooms" }).waitFor()
      })
    })
  )

  it.effect("shows long lists in pages, and hostile names truncated and isolated", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      yield* registerAdmin("chief4")
      const hostile = yield* register("hostile")
      yield* ask("PUT", `/profile/${inPath(hostile.id)}/displayname`, {
        token: hostile.token,
        json: { displayname: `\u202e<b>nimda</b>${"W".repeat(1_000)}` }
      })
      const room = yield* createRoom(hostile, { name: `\u202e${"M".repeat(240)}` })
      const accounts = yield* AccountStore
      for (let i = 0; i < 230; i++) yield* accounts.create(`@crowd${i}:green.test` as UserId, {})
      const { complaints, page } = yield* visit(`${url}${path}`, { viewport: phone })
      const { total, rows } = yield* Effect.promise(async () => {
        await page.getByLabel("User name").fill("chief4")
        await page.getByLabel("Password").fill("secret-chief4")
        await page.keyboard.press("Enter")
        const found = await page.getByText(/^100 of \d+$/).textContent()
        const total = Number(found?.split(" of ")[1])
        await page.getByRole("button", { name: "Show more" }).press("Enter")
        await page.getByText(`200 of ${total}`).waitFor()
        await page.getByRole("button", { name: "Show more" }).press("Enter")
        await page.getByRole("button", { name: "Show more" }).waitFor({ state: "hidden" })
        const rows = await page.locator("tbody tr").count()
        await page.getByRole("searchbox").fill("hostile")
        await page.keyboard.press("Enter")
        // The button of the row before the search is replaced.
        await page.locator("tbody tr").nth(1).waitFor({ state: "detached" })
        await page.getByRole("button", { name: "Lock @hostile:green.test" }).press("Enter")
        await page.getByRole("status").getByText("@hostile:green.test is locked").waitFor()
        // The search term stays, and the same row keeps the focus.
        await page.getByRole("button", { name: "Unlock @hostile:green.test" }).and(page.locator(":focus")).waitFor()
        return { total, rows }
      })
      assert.strictEqual(rows, total)
      const name = yield* Effect.promise(() => page.locator("td[data-label=Name] bdi").textContent())
      assert.strictEqual(name?.length, 201)
      yield* picture(page, "admin-hostile-phone")
      yield* Effect.promise(async () => {
        await page.getByRole("button", { name: "Rooms" }).click()
        await page.getByRole("button", { name: /^Shut down \u202eM+/ }).click()
        await page.getByRole("dialog").getByText(room).waitFor()
      })
      yield* picture(page, "admin-hostile-dialog-phone")
      assert.deepStrictEqual(complaints, [])
    })
  )

  it.effect("fits a phone in dark mode", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      yield* registerAdmin("chief2")
      const { page } = yield* visit(`${url}${path}`, { colorScheme: "dark", viewport: phone })
      yield* Effect.promise(async () => {
        await page.getByLabel("User name").fill("chief2")
        await page.getByLabel("Password").fill("secret-chief2")
        await page.getByRole("button", { name: "Log in" }).click()
        await page.getByText("@chief2:green.test").first().waitFor()
        await page.getByRole("button", { name: "Deactivate @chief2:green.test" }).waitFor()
      })
      yield* picture(page, "admin-users-phone")
    })
  )
})
