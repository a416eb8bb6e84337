/**
 * A client of the OAuth 2.0 API, for tests.
 */
import { Effect } from "effect"
import { askToday } from "../TestGateway.ts"

export const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

export const metadata = Effect.map(
  askToday("GET", "/v1/auth_metadata"),
  ({ body }) => body as unknown as Record<string, string>
)

const post = (url: string, body: string, type: string) =>
  Effect.promise(async () => {
    const response = await fetch(url, { method: "POST", headers: { "content-type": type }, body })
    return { status: response.status, body: (await response.json()) as Record<string, string> }
  })

export const postForm = (url: string, form: Record<string, string>) =>
  post(url, new URLSearchParams(form).toString(), "application/x-www-form-urlencoded")

const client = {
  client_name: "Element",
  client_uri: "https://element.test/",
  redirect_uris: ["https://element.test/callback", "test.element:/callback", "http://localhost/callback"],
  application_type: "native",
  token_endpoint_auth_method: "none",
  response_types: ["code"],
  grant_types: ["authorization_code", "refresh_token", deviceGrant]
}

/** Registers a client. `more` are other or additional metadata. */
export const registerClient = Effect.fnUntraced(function* (more: object = {}) {
  const { registration_endpoint } = yield* metadata
  return yield* post(registration_endpoint!, JSON.stringify({ ...client, ...more }), "application/json")
})

/** The scope of a client with the device ID `device`. */
export const scopeOf = (device: string) => `urn:matrix:client:api:* urn:matrix:client:device:${device}`

export const whoami = (token: string | undefined) => askToday("GET", "/v3/account/whoami", { token })
