/**
 * The texts of mails and text messages. Each is a file, which an operator can replace by a file of the same name in another folder.
 * `{{name}}` stands for a value. Control characters are removed from values, and values in HTML are escaped, so that a value can
 * add neither a line to a header nor an element to a page.
 */

import { fileURLToPath } from "node:url"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import { Context, Data, Effect, FileSystem, Layer } from "effect"

const validation = ["address", "link", "server_name"] as const
const invite = ["address", "sender", "room", "server_name"] as const

/** Every template, with the values that it may use. */
export const templates = {
  "validation.subject.txt": validation,
  "validation.txt": validation,
  "validation.html": validation,
  "invite.subject.txt": invite,
  "invite.txt": invite,
  "invite.html": invite,
  "code.txt": ["code", "server_name"],
  "invite-sms.txt": invite
} as const

export type TemplateName = keyof typeof templates
type TemplateValues<Name extends TemplateName> = { readonly [K in (typeof templates)[Name][number]]: string }

/** A template cannot be used. The message names the file. */
export class TemplateError extends Data.TaggedError("TemplateError")<{ readonly message: string }> {}

const builtIn = fileURLToPath(new URL("../templates", import.meta.url))

const placeholder = /\{\{\s*([a-z_]+)\s*\}\}/g

/** Control characters, and those that break or turn lines. */
const controls = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu

/** The text in one line, as it may stand in a header. */
export const oneLine = (text: string): string => text.toWellFormed().replace(controls, " ").trim()

const fill = (template: string, values: { readonly [name: string]: string }, html: boolean): string =>
  template.replace(placeholder, (_, name: string) => {
    const value = oneLine(values[name] ?? "")
    return html ? escapeHtml(value) : value
  })

const read = Effect.fnUntraced(function* (name: TemplateName, folder: string | undefined) {
  const fileSystem = yield* FileSystem.FileSystem
  const own = folder === undefined ? undefined : `${folder}/${name}`
  const file = own !== undefined && (yield* fileSystem.exists(own)) ? own : `${builtIn}/${name}`
  const text = yield* fileSystem.readFileString(file)
  const known: ReadonlyArray<string> = templates[name]
  for (const [, value] of text.matchAll(placeholder)) {
    if (!known.includes(value!)) {
      return yield* new TemplateError({
        message: `--templates-dir: ${file} uses {{${value}}}, but there is only ${known.map((it) => `{{${it}}}`).join(", ")}`
      })
    }
  }
  return text
})

const make = Effect.fnUntraced(
  function* (folder: string | undefined) {
    const fileSystem = yield* FileSystem.FileSystem
    if (folder !== undefined && !(yield* fileSystem.exists(folder))) {
      return yield* new TemplateError({ message: `--templates-dir: there is no folder ${folder}` })
    }
    const names = Object.keys(templates) as ReadonlyArray<TemplateName>
    const texts = new Map(
      yield* Effect.forEach(names, (name) => Effect.map(read(name, folder), (text) => [name, text] as const))
    )
    return Templates.of({
      render: (name, values) => {
        const text = fill(texts.get(name)!, values, name.endsWith(".html"))
        return name.endsWith(".subject.txt") ? oneLine(text) : text
      }
    })
  },
  Effect.catchTag("PlatformError", (error) =>
    Effect.fail(new TemplateError({ message: `--templates-dir: ${error.message}` }))
  )
)

export class Templates extends Context.Service<
  Templates,
  {
    readonly render: <Name extends TemplateName>(name: Name, values: TemplateValues<Name>) => string
  }
>()("greenroom/identity/Templates") {
  /** The templates of the folder, and the built-in ones for files that it does not have. */
  static readonly layer = (folder: string | undefined): Layer.Layer<Templates, TemplateError, FileSystem.FileSystem> =>
    Layer.effect(Templates, make(folder))
}
