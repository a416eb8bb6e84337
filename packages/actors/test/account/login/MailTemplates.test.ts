import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { loadTemplates } from "../../../src/account/login/MailTemplates.ts"

const values = {
  server: "green.test",
  action: 'log in to <green> & "test"',
  minutes: "15",
  address: "192.0.2.7",
  code: "1234 5678",
  url: "https://green.test/?token=a&b"
}

/** The templates of a directory with these files. */
const templatesOf = (files: { readonly [name: string]: string }) =>
  Effect.gen(function* () {
    const fileSystem = yield* FileSystem.FileSystem
    const directory = yield* fileSystem.makeTempDirectoryScoped()
    for (const [name, text] of Object.entries(files)) yield* fileSystem.writeFileString(`${directory}/${name}`, text)
    return yield* loadTemplates(directory)
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

describe("mail templates", () => {
  it.effect("tell the code or the link in text and in HTML, where values are escaped", () =>
    Effect.gen(function* () {
      const render = yield* templatesOf({})
      const code = render("login-code", values)
      assert.strictEqual(code.subject, "1234 5678 is your code for green.test")
      assert.include(code.text, "1234 5678")
      assert.include(code.text, 'log in to <green> & "test"')
      assert.include(code.html, "1234 5678")
      assert.include(code.html, "log in to &lt;green&gt; &amp; &quot;test&quot;")
      const link = render("login-link", values)
      assert.include(link.text, values.url)
      assert.include(link.html, 'href="https://green.test/?token=a&amp;b"')
    })
  )

  it.effect("are replaced one by one", () =>
    Effect.gen(function* () {
      const render = yield* templatesOf({ "login-code.txt": "Subject: Bonjour {{server}}\n\nCode : {{code}}\n" })
      const code = render("login-code", values)
      assert.deepStrictEqual([code.subject, code.text], ["Bonjour green.test", "Code : 1234 5678\n"])
      assert.include(code.html, "Your code to")
      assert.include(render("login-link", values).subject, "Confirm")
    })
  )

  it.effect("keep a subject in one line, whatever is put into it", () =>
    Effect.gen(function* () {
      const render = yield* templatesOf({ "login-code.txt": "Subject: {{action}}\n\n{{code}}" })
      const { subject } = render("login-code", { ...values, action: "a\r\nBcc: mallory@evil.test" })
      assert.strictEqual(subject, "a Bcc: mallory@evil.test")
    })
  )

  for (const [name, text, said] of [
    ["login-code.txt", "Hello {{code}}", /must begin with a line "Subject: \.\.\."/],
    ["login-link.html", "<p>{{link}}</p>", /unknown value \{\{link\}\}/]
  ] as const) {
    it.effect(`that are wrong are reported at the start: ${text}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(templatesOf({ [name]: text }))
        assert.match(String((error as { readonly message: string }).message), said)
      })
    )
  }
})
