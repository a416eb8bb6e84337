/**
 * ID tokens for clients that use the OAuth 2.0 API as OpenID Connect did before version 1.15 of the specification: with the scope
 * `openid`, a nonce, and an ID token beside the access token. matrix-js-sdk asked for them up to version 41.
 *
 * Source: OpenID Connect Core 1.0, 2 and 3.1.3.3; RFC 7515, 7517, 7638.
 */
import { createHash, createPublicKey, type KeyObject, sign } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { IdTokenKeyStore } from "@greenroom/store/IdTokenKeyStore"
import { Clock, Effect } from "effect"
import { PublicUrl } from "../../../runtime/PublicUrl.ts"
import type { IdTokenJwk, IdTokenKeys } from "../OAuthRequests.ts"

/** For how many seconds an ID token is valid. Clients check it when they receive it. */
const lifetime = 300

const base64url = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** The key ID is the thumbprint of the key. */
const jwkOf = (key: KeyObject): IdTokenJwk => {
  const { e = "", kty = "", n = "" } = createPublicKey(key).export({ format: "jwk" })
  const kid = createHash("sha256").update(JSON.stringify({ e, kty, n })).digest("base64url")
  return { kty, n, e, alg: "RS256", use: "sig", kid }
}

export const makeIdTokens = Effect.gen(function* () {
  const store = yield* IdTokenKeyStore
  const publicUrl = yield* PublicUrl
  let cached: { readonly key: KeyObject; readonly jwk: IdTokenJwk } | undefined
  const pair = Effect.suspend(() =>
    cached === undefined ? Effect.map(store.key, (key) => (cached = { key, jwk: jwkOf(key) })) : Effect.succeed(cached)
  )

  /** An ID token, as a JWT. Its issuer is the one that the metadata of the API names. */
  const issue = Effect.fnUntraced(function* (clientId: string, userId: UserId, nonce: string | undefined) {
    const { jwk, key } = yield* pair
    const iat = Math.floor((yield* Clock.currentTimeMillis) / 1_000)
    const claims = { iss: `${publicUrl.get()}/`, sub: userId, aud: clientId, iat, exp: iat + lifetime }
    const header = { alg: jwk.alg, typ: "JWT", kid: jwk.kid }
    const signed = `${base64url(header)}.${base64url(nonce === undefined ? claims : { ...claims, nonce })}`
    return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`
  })

  const keys: Effect.Effect<IdTokenKeys> = Effect.map(pair, ({ jwk }) => ({ keys: [jwk] }))
  return { issue, keys }
})

export type IdTokens = Effect.Success<typeof makeIdTokens>
