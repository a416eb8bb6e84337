/**
 * The page that performs the entire login for a client that cannot. The result, as `POST /login` ends with it, goes to
 * `window.onLogin` where an embedding browser has set it, and to the page that opened this one: to its `onLogin`, and as
 * the message `{type: "m.login", result}`. A page of another origin gets it only after the user was told its name. The
 * page needs nothing from elsewhere, and its policy allows nothing from elsewhere.
 *
 * Source: "Login fallback" of the specification.
 */
import { createHash } from "node:crypto"
import { HttpServerResponse } from "effect/http"

const style = `
  body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; place-items: center; min-height: 100vh; background: #f4f4f6; color: #222 }
  form { background: #fff; padding: 2rem; border-radius: 8px; box-shadow: 0 1px 6px #0002; width: min(20rem, 80vw) }
  h1 { font-size: 1.25rem; margin: 0 0 1rem }
  label { display: block; margin-bottom: 1rem }
  input, button { box-sizing: border-box; width: 100%; font: inherit; padding: .5rem; border: 1px solid #bbb; border-radius: 4px }
  button { background: #2456a6; border-color: #2456a6; color: #fff }
  [role=alert] { color: #a02020; min-height: 1.5em; margin: 1rem 0 0 }
`

const script = `
  const form = document.querySelector("form")
  const message = document.querySelector("[role=alert]")
  const opener = window.opener
  const target = document.referrer ? new URL(document.referrer).origin : location.origin
  if (opener && target !== location.origin) {
    document.querySelector("[role=note]").textContent = "You log in for " + target + ", which may then act as you."
  }
  const handOver = (result) => {
    if (typeof window.onLogin === "function") window.onLogin(result)
    if (!opener) return
    try {
      if (typeof opener.onLogin === "function") opener.onLogin(result)
    } catch {}
    opener.postMessage({ type: "m.login", result }, target)
    window.close()
  }
  const deliver = (result) => {
    form.replaceChildren("You are logged in as " + result.user_id + ".")
    handOver(result)
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault()
    message.textContent = ""
    const { user, password } = form.elements
    try {
      const response = await fetch(location.pathname.replace(/\\/fallback\\/?$/, ""), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ type: "m.login.password", user: user.value, password: password.value })
      })
      const result = await response.json()
      if (response.ok) deliver(result)
      else message.textContent = result.error
    } catch {
      message.textContent = "The server did not answer."
    }
  })
`

const hashOf = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

const policy = [
  "default-src 'none'",
  `script-src ${hashOf(script)}`,
  `style-src ${hashOf(style)}`,
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'"
].join("; ")

const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in</title>
<style>${style}</style>
</head>
<body>
<form>
<h1>Log in</h1>
<p role="note"></p>
<label>User <input name="user" autocomplete="username" autocapitalize="none" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button>
<p role="alert"></p>
</form>
<script>${script}</script>
</body>
</html>
`

/** The page, with a policy that lets nothing run but what it came with. */
export const loginFallback: HttpServerResponse.HttpServerResponse = HttpServerResponse.html(page).pipe(
  HttpServerResponse.setHeaders({
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store"
  })
)
