/**
 * The pages behind the link in a mail. The first one has only a button: programs that fetch links, to scan or preview them,
 * must not validate anything. The pages load no other files and run no scripts.
 */

import { createHash } from "node:crypto"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import { HttpServerResponse } from "effect/http"

const style = `
  :root { color-scheme: light dark; --back: #f4f4f6; --sheet: #fff; --ink: #222; --button: #2456a6 }
  @media (prefers-color-scheme: dark) { :root { --back: #16181c; --sheet: #23262c; --ink: #e8e8ea; --button: #3b73cc } }
  body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; place-items: center; min-height: 100vh; background: var(--back); color: var(--ink) }
  main { background: var(--sheet); box-sizing: border-box; padding: 2rem; border-radius: 8px; box-shadow: 0 1px 6px #0004; width: min(28rem, 100vw - 2rem); overflow-wrap: anywhere }
  h1 { font-size: 1.25rem; margin: 0 0 1rem }
  a { color: inherit }
  button { box-sizing: border-box; width: 100%; font: inherit; padding: .6rem; border: 0; border-radius: 4px; background: var(--button); color: #fff; cursor: pointer }
  :focus-visible { outline: 3px solid var(--ink); outline-offset: 2px }
`

const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'"
].join("; ")

const page = (title: string, content: string, status: number): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(
    `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${content}
</main>
</body>
</html>
`,
    { status, contentType: "text/html; charset=utf-8" }
  ).pipe(
    HttpServerResponse.setHeaders({
      "content-security-policy": policy,
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store"
    })
  )

/** Asks the reader to confirm their address. The button repeats `query`, the query of the link. */
export const askPage = (query: URLSearchParams): HttpServerResponse.HttpServerResponse =>
  page(
    "Confirm your address",
    `<p>If you asked for this message yourself, confirm that the address is yours.</p>
<form method="post" action="confirm?${escapeHtml(query.toString())}">
<button autofocus>Confirm</button>
</form>`,
    200
  )

/** The page that the client names as next is shown as a link with its host name, never opened automatically. */
export const confirmedPage = (nextLink: string | undefined): HttpServerResponse.HttpServerResponse =>
  page(
    "Confirmed",
    nextLink === undefined
      ? "<p>Your address is confirmed. You may close this page and return to where you came from.</p>"
      : `<p>Your address is confirmed.</p>
<p><a href="${escapeHtml(nextLink)}" rel="noreferrer">Continue to ${escapeHtml(new URL(nextLink).host)}</a></p>`,
    200
  )

/** Shows why the address was not confirmed. */
export const refusedPage = (error: string): HttpServerResponse.HttpServerResponse =>
  page(
    "Not confirmed",
    `<p role="alert">${escapeHtml(error)}.</p>
<p>Return to where you came from and ask for another message.</p>`,
    400
  )
