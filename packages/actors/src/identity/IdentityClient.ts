/**
 * The client of identity servers. It asks servers that the operator trusts and, where the operator allows that, others that a user
 * names, under the address rule for everything that strangers make this server connect to. It believes an association only with the
 * server's signature, by a key that the server publishes.
 *
 * A refusal of the server becomes the error that the user sees. A server that gives no answer, or a malformed one, is
 * M_UNKNOWN.
 *
 * Source: "Identity" of the draft, and the identity service specification.
 */
import { createHash, type KeyObject } from "node:crypto"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { isServerName, UserId as UserIdSchema } from "@greenroom/protocol/Identifiers"
import { SignedAssociation } from "@greenroom/protocol/identity/Association"
import { laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import type { StoreInvite } from "@greenroom/protocol/identity/InvitationApi"
import { hashAlgorithm } from "@greenroom/protocol/identity/LookupApi"
import { type Medium, ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { SessionProof } from "@greenroom/protocol/identity/ValidationApi"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadRequest, Forbidden, type MatrixError, ServerNotTrusted } from "@greenroom/protocol/MatrixError"
import { decodeBase64, importVerifyKey, isKeyId, type SigningKey, verifyJson } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Clock, Context, Effect, Exit, Layer, Option, Result, Schema } from "effect"
import { isAllowedHost } from "../federation/AddressPolicy.ts"
import { addressPolicyOf, FederationConfig } from "../federation/FederationConfig.ts"
import type { Departure } from "../runtime/Departure.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { IdentityFailure, IdentityServer, TrustedServer } from "./IdentityServer.ts"
import { failed, hostOf, makeIdentityCalls, refusal } from "./internal/IdentityCalls.ts"

/** How long a key is remembered, and that there was none. */
const keyLifetime = "1 hour"
const absenceLifetime = "10 seconds"

/** The most signatures of an association that are checked. */
const maxSignatures = 8

const sidPattern = /^[!-~]{1,255}$/

/** An invitation that the identity server keeps for an address. */
export interface KeptInvite {
  readonly token: string
  readonly keys: ReadonlyArray<{ readonly public_key: string; readonly key_validity_url?: string }>
  readonly displayName: string
}

/** An invitation is kept, unless the address has a user by now. */
export type InviteOutcome = { readonly kept: KeptInvite } | { readonly user: UserId }

const StoredInviteAnswer = Schema.Struct({
  token: Schema.String.check(Schema.isPattern(/^[!-~]{1,255}$/)),
  public_keys: Schema.Array(
    Schema.Struct({
      public_key: Schema.String.check(Schema.isMaxLength(64)),
      key_validity_url: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(1_000)))
    })
  ).check(Schema.isMinLength(1), Schema.isMaxLength(16)),
  display_name: Schema.String.check(Schema.isMaxLength(255))
})

const decodeStored = Schema.decodeUnknownOption(StoredInviteAnswer)
const decodeAssociation = Schema.decodeUnknownOption(SignedAssociation)
const decodeThirdPartyId = Schema.decodeUnknownOption(ThirdPartyId)
const decodeUserId = Schema.decodeUnknownOption(UserIdSchema)

/** The hash by which an address is looked up. */
const hashOf = ({ address, medium }: ThirdPartyId, pepper: string): string =>
  createHash("sha256").update(`${address} ${medium} ${pepper}`).digest("base64url")

/** The signatures of an object, with server and key. */
const signaturesOf = (signatures: SignedAssociation["signatures"]) =>
  Object.entries(signatures)
    .flatMap(([signer, byKey]) => Object.keys(byKey).map((keyId) => ({ signer: signer as ServerName, keyId })))
    .filter(({ keyId }) => isKeyId(keyId))
    .slice(0, maxSignatures)

const make = Effect.gen(function* () {
  const { anyIdentityServer = false, identityServers = [] } = yield* HomeServerConfig
  const policy = addressPolicyOf(yield* FederationConfig)
  const { ask, askOfSession, exchange, malformed } = yield* makeIdentityCalls(identityServers)

  const keys = yield* MonotonicCache.makeWith(
    (serverAndKey: string): Effect.Effect<KeyObject, MatrixError> => {
      const [server, keyId] = serverAndKey.split(" ") as [IdentityServer, string]
      const call = { path: `/pubkey/${encodeURIComponent(keyId).replace("%3A", ":")}` }
      const asked = Effect.catch(ask(server, { ...call, isSecond: true }), () => ask(server, call))
      return Effect.flatMap(asked, ({ public_key }) => {
        const bytes = typeof public_key === "string" ? decodeBase64(public_key) : undefined
        const key = bytes === undefined ? undefined : importVerifyKey(bytes)
        return key === undefined || Result.isFailure(key) ? Effect.fail(malformed(server)) : Effect.succeed(key.success)
      })
    },
    { capacity: 100, timeToLive: (exit) => (Exit.isSuccess(exit) ? keyLifetime : absenceLifetime) }
  )

  /** Whether the server has signed the object with a key of its own. */
  const isSigned = Effect.fnUntraced(function* (server: IdentityServer, object: JsonObject, found: SignedAssociation) {
    for (const { keyId, signer } of signaturesOf(found.signatures)) {
      const key = yield* Effect.option(MonotonicCache.get(keys, `${server} ${keyId}`))
      if (Option.isNone(key)) continue
      if (Result.isSuccess(verifyJson(object, signer, new Map([[keyId, key.value]])))) return true
    }
    return false
  })

  /** An association as it came: of this address, valid now, and signed. */
  const verified = Effect.fnUntraced(function* (server: IdentityServer, of: ThirdPartyId, object: JsonObject) {
    const found = Option.getOrUndefined(decodeAssociation(object))
    const now = yield* Clock.currentTimeMillis
    if (found === undefined || found.medium !== of.medium || found.address !== of.address)
      return yield* malformed(server)
    if (found.not_after < now || !(yield* isSigned(server, object, found))) return yield* malformed(server)
    return found.mxid
  })

  const lookup: IdentityClient["Service"]["lookup"] = Effect.fn("IdentityClient.lookup")(function* (server, of) {
    const { address, medium } = of
    const object = yield* ask(server, { path: "/lookup", query: { medium, address } }).pipe(
      // Some servers look up hashes alone; they name the user when they are asked to store an invitation.
      Effect.catchTag("M_FORBIDDEN", () => Effect.succeed<JsonObject>({}))
    )
    if (Object.keys(object).length === 0) return Option.none()
    return Option.some(yield* verified(server, of, object))
  })

  /** How the server hashes addresses now. */
  const pepperOf = Effect.fnUntraced(function* (server: IdentityServer, accessToken: string) {
    const { algorithms, lookup_pepper } = yield* ask(server, { path: "/hash_details", accessToken })
    if (typeof lookup_pepper !== "string" || lookup_pepper.length > 255) return yield* malformed(server)
    if (!Array.isArray(algorithms) || !algorithms.includes(hashAlgorithm)) {
      return yield* failed(server, `does not look up addresses by their ${hashAlgorithm}`)
    }
    return lookup_pepper
  })

  const lookupHashed: IdentityClient["Service"]["lookupHashed"] = Effect.fn("IdentityClient.lookupHashed")(
    function* (server, addresses, accessToken) {
      // The pepper may change between the two calls.
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const pepper = yield* pepperOf(server, accessToken)
        const hashes = addresses.map((address) => hashOf(address, pepper))
        const content = { algorithm: hashAlgorithm, pepper, addresses: hashes }
        const answer = yield* exchange(server, { path: "/lookup", content, accessToken })
        if (answer.body.errcode === "M_INVALID_PEPPER") continue
        if (answer.status !== 200) return yield* Effect.fail(refusal(server, answer))
        const { mappings } = answer.body
        if (!isJsonObject(mappings)) return yield* malformed(server)
        return hashes.map((hash) =>
          Object.hasOwn(mappings, hash) ? Option.getOrUndefined(decodeUserId(mappings[hash])) : undefined
        )
      }
      return yield* failed(server, "changes its pepper all the time")
    }
  )

  const storeInvite: IdentityClient["Service"]["storeInvite"] = Effect.fn("IdentityClient.storeInvite")(
    function* (server, invite, accessToken) {
      const content = invite as unknown as JsonObject
      const answer = yield* exchange(server, { path: "/store-invite", content, accessToken })
      if (answer.body.errcode === "M_THREEPID_IN_USE") {
        const user = Option.getOrUndefined(decodeUserId(answer.body.mxid))
        return user === undefined ? yield* malformed(server) : { user }
      }
      if (answer.status !== 200) return yield* Effect.fail(refusal(server, answer))
      const stored = Option.getOrUndefined(decodeStored(answer.body))
      if (stored === undefined) return yield* malformed(server)
      return { kept: { token: stored.token, keys: stored.public_keys, displayName: stored.display_name } }
    }
  )

  const requestToken: IdentityClient["Service"]["requestToken"] = Effect.fn("IdentityClient.requestToken")(
    function* (server, medium, content) {
      const { sid } = yield* ask(server, { path: `/validate/${medium}/requestToken`, content })
      return typeof sid === "string" && sidPattern.test(sid) ? { sid } : yield* malformed(server)
    }
  )

  const validated: IdentityClient["Service"]["validated"] = Effect.fn("IdentityClient.validated")(function* (
    server,
    { client_secret, sid },
    accessToken
  ) {
    const query = { sid, client_secret }
    const object = yield* askOfSession(server, { path: "/3pid/getValidated3pid", query, accessToken })
    const found = Option.getOrUndefined(decodeThirdPartyId(object))
    return found === undefined ? yield* malformed(server) : { medium: found.medium, address: found.address }
  })

  const bind: IdentityClient["Service"]["bind"] = Effect.fn("IdentityClient.bind")(function* (
    server,
    { client_secret, sid },
    of,
    mxid,
    accessToken
  ) {
    const content = { sid, client_secret, mxid }
    const object = yield* askOfSession(server, { path: "/3pid/bind", content, accessToken })
    if ((yield* verified(server, of, object)) !== mxid) return yield* malformed(server)
  })

  const unbind: IdentityClient["Service"]["unbind"] = Effect.fn("IdentityClient.unbind")(function* (
    server,
    { client_secret, sid },
    { address, medium },
    mxid
  ) {
    const content = { sid, client_secret, mxid, threepid: { medium, address } }
    yield* askOfSession(server, { path: "/3pid/unbind", content })
  })

  const withdraw: IdentityClient["Service"]["withdraw"] = Effect.fn("IdentityClient.withdraw")(
    function* (server, { address, medium }, mxid, key) {
      const content = { mxid, threepid: { medium, address } }
      const { body, status } = yield* exchange(server, { path: "/3pid/unbind", content, signedBy: key })
      return status === 200 || body.errcode === "M_NOT_FOUND"
    },
    Effect.catch(() => Effect.succeed(false))
  )

  const trusted: IdentityClient["Service"]["trusted"] = (name) => {
    const [first] = identityServers
    if (first === undefined)
      return Effect.fail(new BadRequest({ error: "This home server has no identity server configured" }))
    const server = name === undefined ? first : identityServers.find((url) => url === name || hostOf(url) === name)
    return server === undefined
      ? Effect.fail(new ServerNotTrusted({ error: "id_server: this home server does not trust that identity server" }))
      : Effect.succeed(server as TrustedServer)
  }

  const named: IdentityClient["Service"]["named"] = (name) => {
    if (!anyIdentityServer || name === undefined || !isServerName(name)) return trusted(name)
    const url = URL.parse(`https://${name}`)
    const stranger =
      url !== null && isAllowedHost(policy, url.hostname)
        ? Effect.succeed(`https://${name}` as IdentityServer)
        : Effect.fail(new Forbidden({ error: "id_server: the identity server must have a public address" }))
    return Effect.catch(trusted(name), () => stranger)
  }

  return IdentityClient.of({
    trusted,
    named,
    servers: identityServers as ReadonlyArray<TrustedServer>,
    lookup,
    lookupHashed,
    storeInvite,
    requestToken,
    submitUrl: (server, medium) => `${server}${laterIdentityPrefix}/validate/${medium}/submitToken`,
    validated,
    bind,
    unbind,
    withdraw
  })
})

/**
 * With the access token of a user of the identity server, requests are of version 2 of the API and in the name of that user;
 * without one they are of version 1.
 */
export class IdentityClient extends Context.Service<
  IdentityClient,
  {
    /** The trusted server with this host or URL, the first one if none is named. Errors: M_SERVER_NOT_TRUSTED, M_UNKNOWN. */
    readonly trusted: (name: string | undefined) => Effect.Effect<TrustedServer, MatrixError>
    /**
     * The server with this host or URL: a trusted one, the first if none is named, or any other where the operator allows that. Errors:
     * M_SERVER_NOT_TRUSTED, M_FORBIDDEN for an address that is not public, M_UNKNOWN.
     */
    readonly named: (name: string | undefined) => Effect.Effect<IdentityServer, MatrixError>
    /** Every trusted server. */
    readonly servers: ReadonlyArray<TrustedServer>
    /** The user of an address in its canonical form, by a signed association. */
    readonly lookup: (server: IdentityServer, of: ThirdPartyId) => Effect.Effect<Option.Option<UserId>, MatrixError>
    /**
     * The users of addresses in their canonical form, in their order, asked for by hashes, in the name of the user of that server
     * whose access token is given. They are not signed.
     */
    readonly lookupHashed: (
      server: IdentityServer,
      addresses: ReadonlyArray<ThirdPartyId>,
      accessToken: string
    ) => Effect.Effect<ReadonlyArray<UserId | undefined>, MatrixError>
    /** Asks an identity server to store an invitation of an address and to notify the address. */
    readonly storeInvite: (
      server: IdentityServer,
      invite: StoreInvite,
      accessToken?: string
    ) => Effect.Effect<InviteOutcome, MatrixError>
    /** Has a token sent to an address. */
    readonly requestToken: (
      server: IdentityServer,
      medium: Medium,
      content: JsonObject
    ) => Effect.Effect<{ readonly sid: string }, MatrixError>
    /** The URL at which clients submit that token. */
    readonly submitUrl: (server: IdentityServer, medium: Medium) => string
    /** The address that a session has validated. */
    readonly validated: (
      server: IdentityServer,
      proof: SessionProof,
      accessToken?: string
    ) => Effect.Effect<ThirdPartyId, IdentityFailure>
    /** Binds the address that the session has validated to a user. */
    readonly bind: (
      server: IdentityServer,
      proof: SessionProof,
      of: ThirdPartyId,
      userId: UserId,
      accessToken?: string
    ) => Effect.Effect<void, IdentityFailure>
    /** Removes the binding. */
    readonly unbind: (
      server: IdentityServer,
      proof: SessionProof,
      of: ThirdPartyId,
      userId: UserId
    ) => Effect.Effect<void, IdentityFailure>
    /**
     * Removes the binding of a user of this server, by the server's own signature. Whether the address is not bound any
     * more: false if the server does not do so, or cannot be asked.
     */
    readonly withdraw: (
      server: IdentityServer,
      of: ThirdPartyId,
      userId: UserId,
      key: SigningKey
    ) => Effect.Effect<boolean>
  }
>()("greenroom/actors/IdentityClient") {
  static readonly layer: Layer.Layer<IdentityClient, never, HomeServerConfig | FederationConfig | Departure> =
    Layer.effect(IdentityClient, make).pipe(Layer.provide(NodeHttpClient.layerNodeHttp))
}
