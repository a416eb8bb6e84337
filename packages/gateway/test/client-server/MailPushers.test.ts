import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import { loginGatewayOnDatabase, mailOptions, withMail } from "../login/TestLogin.ts"
import { linkIn, type Received, type TestMail, testMail } from "../login/TestMail.ts"
import { askToday, register, roomWith, sendText } from "../TestGateway.ts"
import { addEmail, clickLink, post } from "./TestAddresses.ts"

const pusher = (pushkey: string, more: object = {}) => ({
  app_id: "m.email",
  pushkey,
  kind: "email",
  app_display_name: "Email Notifications",
  device_display_name: pushkey,
  lang: "en",
  data: { brand: "Element" },
  append: true,
  ...more
})

const delay = 1_000
const withDelay = (mail: TestMail) => ({ mail: { ...mailOptions(mail), notificationDelay: delay } })

/** Takes mails to an address until one has `text`. */
const mailsUntil = Effect.fnUntraced(function* (mail: TestMail, to: string, text: string) {
  const all: Array<Received> = []
  while (!all.at(-1)?.body.includes(text)) all.push(yield* mail.next(to))
  return all
})

const countOf = (mails: ReadonlyArray<Received>, text: string) =>
  mails.reduce((sum, { body }) => sum + body.split("text/html")[0]!.split(text).length - 1, 0)

describe("email pushers", () => {
  it.live("send each unread message once, without the content of encrypted rooms, until their link ends them", () =>
    Effect.scoped(
      Effect.flatMap(testMail(), (mail) =>
        Effect.gen(function* () {
          const alice = yield* register("alice")
          const bob = yield* register("bob")
          yield* addEmail(mail, bob, "bob", "bob@mail.test")
          const foreign = yield* post("/v3/pushers/set", pusher("alice@mail.test"), bob.token)
          assert.strictEqual(foreign.body.errcode, "M_THREEPID_NOT_FOUND")
          const set = yield* post("/v3/pushers/set", pusher("Bob@mail.test"), bob.token)
          assert.strictEqual(set.status, 200, set.text)

          const tea = yield* roomWith(alice, [bob], { name: "Tea <3" })
          const encryption = {
            type: "m.room.encryption",
            state_key: "",
            content: { algorithm: "m.megolm.v1.aes-sha2" }
          }
          const secret = yield* roomWith(alice, [bob], { name: "Secret", initial_state: [encryption] })
          yield* sendText(alice, secret, "the secret text")
          yield* sendText(alice, tea, "First & <b>bold</b>")
          yield* sendText(bob, tea, "my own")
          yield* sendText(alice, tea, "More tea?")
          const mails = yield* mailsUntil(mail, "bob@mail.test", "More tea?")
          assert.strictEqual(countOf(mails, "More tea?"), 1)
          assert.strictEqual(countOf(mails, "First & <b>bold</b>"), 1)
          const all = mails.map(({ body }) => body).join("")
          assert.include(all, "First &amp; &lt;b&gt;bold&lt;/b&gt;")
          assert.include(all, "Tea &lt;3")
          assert.include(all, `https://matrix.to/#/${encodeURIComponent(tea)}?via=green.test`)
          assert.include(all, "an encrypted message")
          assert.notInclude(all, "the secret text")
          assert.notInclude(all, "my own")
          const last = mails.at(-1)!
          assert.match(last.headers.subject!, /^\[green\.test\] \d unread messages? in /)
          assert.match(last.headers["message-id"]!, /^<notifications\..*@green\.test>$/)

          const link = linkIn(last)
          assert.strictEqual(last.headers["list-unsubscribe"], `<${link}>`)
          const clicked = yield* clickLink(link)
          assert.deepStrictEqual([clicked.seen, clicked.clicked], [200, 200])
          const left = yield* askToday("GET", "/v3/pushers", { token: bob.token })
          assert.strictEqual(left.text, '{"pushers":[]}')
          assert.strictEqual((yield* clickLink(link)).clicked, 404)
          const forged = link.replace(/token=\d+/, "token=1000")
          assert.strictEqual((yield* clickLink(forged)).clicked, 404)
        }).pipe(Effect.provide(loginGatewayOnDatabase(withDelay(mail))), Effect.provide(TestDatabase.layer))
      )
    )
  )

  it.live("send a mail once that was due when the server stopped", () =>
    Effect.scoped(
      Effect.flatMap(testMail(), (mail) =>
        Effect.gen(function* () {
          const { alice, room } = yield* Effect.gen(function* () {
            const alice = yield* register("alice")
            const bob = yield* register("bob")
            yield* addEmail(mail, bob, "bob", "bob@mail.test")
            yield* post("/v3/pushers/set", pusher("bob@mail.test"), bob.token)
            const room = yield* roomWith(alice, [bob], { name: "Tea" })
            yield* sendText(alice, room, "Before the end")
            return { alice, room }
          }).pipe(Effect.provide(loginGatewayOnDatabase(withDelay(mail))))
          yield* sendText(alice, room, "After it").pipe(
            Effect.andThen(mailsUntil(mail, "bob@mail.test", "After it")),
            Effect.provide(loginGatewayOnDatabase(withDelay(mail)))
          )
          const sent = mail.all.filter(({ headers }) => headers["list-unsubscribe"] !== undefined)
          assert.deepStrictEqual([countOf(sent, "Before the end"), countOf(sent, "After it")], [1, 1])
        }).pipe(Effect.provide(TestDatabase.layer))
      )
    )
  )

  it.live("are refused without a mail server", () =>
    withMail({ mail: undefined }, () =>
      Effect.gen(function* () {
        const bob = yield* register("bob")
        const set = yield* post("/v3/pushers/set", pusher("bob@mail.test"), bob.token)
        assert.strictEqual(set.body.errcode, "M_INVALID_PARAM")
      })
    )
  )
})
