/**
 * The texts of mails. An operator can replace them by files in a directory: `login-code.txt`, `login-code.html`,
 * `login-link.txt`, `login-link.html`. A text starts with a line `Subject: ...` and an empty line. `{{name}}` stands for
 * a value, which is escaped in HTML.
 *
 * Values: `server` (the name of the home server), `action` (such as "log in to example.org"), `minutes` (until it
 * expires), `address` (where the request came from), `code` or `url`. In `notifications`: `summary`, `messages` (the unread
 * messages by room, as text or HTML), `user`, and `url` of the page that ends these mails. In `registration-approved` and
 * `registration-rejected`: `server` and `user`.
 */
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"

const templateNames = [
  "login-code",
  "login-link",
  "address-in-use",
  "address-unknown",
  "notifications",
  "registration-approved",
  "registration-rejected"
] as const
/** The name of a template. */
export type TemplateName = (typeof templateNames)[number]

/** A template lacks a part, or names an unknown value. */
export class MailTemplateError extends Data.TaggedError("MailTemplateError")<{ readonly message: string }> {}

/** A mail, as text and as HTML. */
export interface Mail {
  readonly subject: string
  readonly text: string
  readonly html: string
}

/** A value in plain text, and as HTML where it is more than text. */
export type MailValue = string | { readonly text: string; readonly html: string }

/** The values of the placeholders of a template. */
export type MailValues = { readonly [name: string]: MailValue }

interface Template {
  readonly text: string
  readonly html: string
}

const requestFooter = `<p style="font-size:13px;opacity:.75;margin-top:32px">The request came from {{address}}. If it was not you, ignore this mail: without it nobody gets in.</p>`

const htmlPage = (content: string, end = requestFooter) => `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{server}}</title>
</head>
<body style="margin:0;padding:24px;font:16px/1.6 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif">
<div style="max-width:480px;margin:0 auto">
${content}
${end}
</div>
</body>
</html>
`

const footer = "The request came from {{address}}. If it was not you, ignore this mail: without it\nnobody gets in.\n"

const defaults: { readonly [name in TemplateName]: Template } = {
  "login-code": {
    text: `Subject: {{code}} is your code for {{server}}

Your code to {{action}} is

    {{code}}

It is good for {{minutes}} minutes. Nobody who asks you for it is from {{server}}.

${footer}`,
    html: htmlPage(`<p>Your code to {{action}} is</p>
<p style="font-size:32px;font-weight:600;letter-spacing:.12em;margin:24px 0;font-variant-numeric:tabular-nums">{{code}}</p>
<p>It is good for {{minutes}} minutes. Nobody who asks you for it is from {{server}}.</p>`)
  },
  "login-link": {
    text: `Subject: Confirm: {{action}}

To {{action}}, open this link and confirm it there:

{{url}}

It is good for {{minutes}} minutes. Open it only if it was you who asked for it.

${footer}`,
    html: htmlPage(`<p>To {{action}}, open this link and confirm it there:</p>
<p style="margin:28px 0"><a href="{{url}}" style="display:inline-block;background:#1f6f54;color:#fff;text-decoration:none;font-weight:600;padding:12px 24px;border-radius:8px">Go on</a></p>
<p style="font-size:13px;word-break:break-all">{{url}}</p>
<p>It is good for {{minutes}} minutes. Open it only if it was you who asked for it.</p>`)
  },
  "address-in-use": {
    text: `Subject: You have an account at {{server}}

Somebody wanted to {{action}} with this address. It belongs to an account at
{{server}} already. If it is yours, log in; if you have forgotten the password, set a new one.

${footer}`,
    html: htmlPage(`<p>Somebody wanted to {{action}} with this address. It belongs to an account at {{server}} already.</p>
<p>If it is yours, log in; if you have forgotten the password, set a new one.</p>`)
  },
  "address-unknown": {
    text: `Subject: No account at {{server}} has this address

Somebody wanted to {{action}} with this address. No account at {{server}} has it.
If it was you, log in with the name of your account, use the address that you added to it, or make a new account.

${footer}`,
    html: htmlPage(`<p>Somebody wanted to {{action}} with this address. No account at {{server}} has it.</p>
<p>If it was you, log in with the name of your account, use the address that you added to it, or make a new account.</p>`)
  },
  notifications: {
    text: `Subject: [{{server}}] {{summary}}

{{messages}}
You get this mail because {{user}} wants mails about unread messages.
To end that, open this page:

{{url}}
`,
    html: htmlPage(
      "{{messages}}",
      `<p style="font-size:13px;opacity:.75;margin-top:32px">You get this mail because {{user}} wants mails about unread messages. <a href="{{url}}">End that</a></p>`
    )
  },
  "registration-approved": {
    text: `Subject: Your account at {{server}} can be used

An administrator of {{server}} has approved your account {{user}}.
You can log in now.
`,
    html: htmlPage(
      "<p>An administrator of {{server}} has approved your account <b>{{user}}</b>.</p>\n<p>You can log in now.</p>",
      ""
    )
  },
  "registration-rejected": {
    text: `Subject: Your account at {{server}} was not approved

An administrator of {{server}} has not approved the account {{user}}, which you
asked for. It cannot be used.
`,
    html: htmlPage(
      "<p>An administrator of {{server}} has not approved the account <b>{{user}}</b>, which you asked for. It cannot be used.</p>",
      ""
    )
  }
}

const textOf = (value: MailValue): string => (typeof value === "string" ? value : value.text)
const htmlOf = (value: MailValue): string => (typeof value === "string" ? escapeHtml(value) : value.html)

const fill = (template: string, values: MailValues, show: (value: MailValue) => string): string =>
  template.replace(/\{\{([a-z]+)\}\}/g, (_, name: string) => show(values[name] ?? ""))

const oneLine = (text: string): string => text.replace(/[\r\n\t\0]+/g, " ").trim()

const knownValues = new Set(["server", "action", "minutes", "address", "code", "url", "summary", "messages", "user"])

const check = (file: string, text: string): Effect.Effect<void, MailTemplateError> => {
  const unknown = [...text.matchAll(/\{\{([^}]*)\}\}/g)].find(([, name]) => !knownValues.has(name ?? ""))
  return unknown === undefined
    ? Effect.void
    : Effect.fail(new MailTemplateError({ message: `${file}: unknown value ${unknown[0]}` }))
}

const subjectPattern = /^Subject: ([^\r\n]+)\r?\n\r?\n/

/** Renders a mail from its template. */
type RenderMail = (name: TemplateName, values: MailValues) => Mail

const render =
  (templates: { readonly [name in TemplateName]: Template }): RenderMail =>
  (name, values) => {
    const { html, text } = templates[name]
    const subject = subjectPattern.exec(text)
    return {
      subject: oneLine(fill(subject?.[1] ?? "", values, textOf)),
      text: fill(text.slice(subject?.[0].length ?? 0), values, textOf),
      html: fill(html, values, htmlOf)
    }
  }

/** The default templates, replaced by those in the directory. Errors: `MailTemplateError`. */
export const loadTemplates = Effect.fn("loadTemplates")(function* (directory: string | undefined) {
  if (directory === undefined) return render(defaults)
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const fail = (message: string) => Effect.fail(new MailTemplateError({ message }))
  const read = Effect.fnUntraced(function* (name: TemplateName, kind: keyof Template) {
    const file = path.join(directory, `${name}.${kind === "text" ? "txt" : "html"}`)
    const text = yield* fileSystem
      .readFileString(file)
      .pipe(
        Effect.catch((error) =>
          error.reason._tag === "NotFound"
            ? Effect.succeed(undefined)
            : fail(`Cannot read the mail template ${file}: ${error.reason.message}`)
        )
      )
    if (text === undefined) return defaults[name][kind]
    if (kind === "text" && !subjectPattern.test(text)) {
      return yield* fail(`${file} must begin with a line "Subject: ..." and an empty line`)
    }
    yield* check(file, text)
    return text
  })
  if (!(yield* Effect.orElseSucceed(fileSystem.exists(directory), () => false))) {
    return yield* fail(`mail.templates: there is no directory ${directory}`)
  }
  const templates: Record<string, Template> = {}
  for (const name of templateNames) {
    templates[name] = { text: yield* read(name, "text"), html: yield* read(name, "html") }
  }
  return render(templates as { readonly [name in TemplateName]: Template })
})
