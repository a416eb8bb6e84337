/** Registration of an administrator by the shared secret. */
import { createHmac } from "node:crypto"
import { Effect } from "effect"
import { curl } from "./Curl.ts"
import { succeeded } from "./Scene.ts"

/** The shared secret that the gateway must have: `GREENROOM_REGISTRATION_SHARED_SECRET`. */
export const secret = "shared"

/** Registers the administrator `boss`. Returns the access token. */
export const registerAdmin = Effect.fnUntraced(function* (url: string) {
  const path = "/_synapse/admin/v1/register"
  const { nonce } = succeeded(yield* curl(url, "GET", path)).body
  const mac = createHmac("sha1", secret).update([nonce, "boss", "secret", "admin"].join("\0")).digest("hex")
  const data = { nonce, username: "boss", password: "secret", admin: true, mac }
  return succeeded(yield* curl(url, "POST", path, { data })).body.access_token as string
})
