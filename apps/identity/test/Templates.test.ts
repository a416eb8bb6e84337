import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { Templates } from "../src/Templates.ts"

const values = {
  address: "a@example.org",
  link: "https://id.test/?a=1&b=2",
  server_name: "id.test"
}

/** The templates with a folder of the operator that contains these files. */
const withFolder = <A, E>(files: Record<string, string>, use: Effect.Effect<A, E, Templates>) =>
  Effect.gen(function* () {
    const fileSystem = yield* FileSystem.FileSystem
    const folder = yield* fileSystem.makeTempDirectoryScoped()
    for (const [name, text] of Object.entries(files)) yield* fileSystem.writeFileString(`${folder}/${name}`, text)
    return yield* Effect.provide(use, Templates.layer(folder))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

describe("Templates", () => {
  it.effect("an operator can replace a single text", () =>
    withFolder(
      { "validation.txt": "Go to {{ link }}, {{address}}!" },
      Templates.use(({ render }) =>
        Effect.sync(() => {
          assert.strictEqual(render("validation.txt", values), "Go to https://id.test/?a=1&b=2, a@example.org!")
          assert.include(render("validation.html", values), 'href="https://id.test/?a=1&amp;b=2"')
          assert.strictEqual(render("validation.subject.txt", values), "Confirm your email address")
        })
      )
    )
  )

  it.effect("values are escaped, without markup, line breaks and templates", () =>
    withFolder(
      { "validation.html": "<p>{{address}}</p>", "validation.subject.txt": "For\n{{address}}\n" },
      Templates.use(({ render }) =>
        Effect.sync(() => {
          const hostile = { ...values, address: "<script>\"'\r\nBcc: b@c.de\u0000{{link}}\u2028\u202e" }
          assert.strictEqual(
            render("validation.html", hostile),
            "<p>&lt;script&gt;&quot;&#39; Bcc: b@c.de {{link}}</p>"
          )
          assert.notMatch(render("validation.subject.txt", hostile), /[\r\n\u2028]/)
          assert.notInclude(render("validation.txt", hostile), "\nBcc")
        })
      )
    )
  )

  it.effect("a text with unknown variables is refused at the start", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(withFolder({ "code.txt": "{{code}} {{link}}" }, Templates.use(Effect.succeed)))
      assert.include(error.message, "code.txt uses {{link}}")
      const missing = yield* Effect.flip(
        Effect.provide(Templates.use(Effect.succeed), Templates.layer("/nowhere/templates")).pipe(
          Effect.provide(NodeServices.layer)
        )
      )
      assert.include(missing.message, "--templates-dir")
    })
  )
})
