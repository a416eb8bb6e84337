/**
 * HTML pages: one document each, which loads nothing from elsewhere and whose policy allows nothing from elsewhere.
 * They follow the system's light or dark colours and fit a phone.
 */

import { createHash } from "node:crypto"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import { HttpServerResponse } from "effect/http"
import { style } from "./style.ts"

export interface PageOptions {
  readonly title: string
  /** HTML: texts in it must be escaped already. */
  readonly content: string
  /** JavaScript, without `</script`. */
  readonly script?: string
  /** CSS rules of this page beside those of all pages. */
  readonly extraStyle?: string
  /** JSON for the script, as the element `#data`. */
  readonly data?: unknown
  readonly status?: number
  /** The further target of forms beside this server, as a source of a content security policy. */
  readonly formAction?: string
}

/** JSON that cannot end its element. */
const embed = (data: unknown): string => JSON.stringify(data).replaceAll("<", "\\u003c")

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

const styleOf = ({ extraStyle = "" }: PageOptions): string => style + extraStyle

const policyOf = (options: PageOptions): string => policy(options, hashOf(styleOf(options)))

const policy = ({ formAction, script }: PageOptions, styleHash: string): string =>
  [
    "default-src 'none'",
    `script-src ${script === undefined ? "'none'" : hashOf(script)}`,
    `style-src ${styleHash}`,
    "connect-src 'self'",
    // Browsers load the icon of the page as an image.
    "img-src 'self'",
    formAction === undefined ? "form-action 'self'" : `form-action 'self' ${formAction}`,
    "base-uri 'none'",
    "frame-ancestors 'none'"
  ].join("; ")

const html = ({ content, data, script, title, ...rest }: PageOptions): string => `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${escapeHtml(title)}</title>
<style>${styleOf({ content, title, ...rest })}</style>
</head>
<body>
<main>
${content}
</main>
${data === undefined ? "" : `<script type="application/json" id="data">${embed(data)}</script>`}
${script === undefined ? "" : `<script>${script}</script>`}
</body>
</html>
`

export const page = (options: PageOptions): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.html(html(options)).pipe(
    HttpServerResponse.setStatus(options.status ?? 200),
    HttpServerResponse.setHeaders({
      "content-security-policy": policyOf(options),
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      // With `no-referrer`, forms would not name their origin.
      "referrer-policy": "same-origin",
      "cache-control": "no-store"
    })
  )

const door = `<rect width="48" height="48" rx="13"/><path d="M15 36V18a9 9 0 0 1 18 0v18M10 36h28"/><circle cx="28.5" cy="27" r="1.9"/>`

/** The mark above the heading. */
export const mark = `<svg class="mark" viewBox="0 0 48 48" aria-hidden="true" focusable="false">${door}</svg>`

/** The mark as a file of its own: an SVG image. */
export const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48"><style>rect{fill:#1f6f54}path{fill:none;stroke:#fff;stroke-width:2.6;stroke-linecap:round;stroke-linejoin:round}circle{fill:#fff}</style>${door}</svg>`

/** The paragraph that shows an error; empty without one. */
export const errorParagraph = (text: string | undefined): string =>
  text === undefined ? "" : `<p class="error" role="alert">${escapeHtml(text)}</p>`

/** A page with one message. */
export const messagePage = (options: {
  readonly title: string
  readonly text: string
  readonly status?: number
}): HttpServerResponse.HttpServerResponse =>
  page({
    title: options.title,
    content: `${mark}\n<h1>${escapeHtml(options.title)}</h1>\n<p>${escapeHtml(options.text)}</p>`,
    ...(options.status === undefined ? {} : { status: options.status })
  })
