/**
 * Versions, capabilities and features of this server.
 *
 * Source: "Server discovery" and "Capabilities negotiation" of the client-server specification.
 */

import { AddressValidations } from "@greenroom/actors/account/AddressValidations"
import { Moderation } from "@greenroom/actors/account/Moderation"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import { maxDelay, maxScheduled } from "@greenroom/actors/room/DelayedEvents"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { specificationVersions, type Versions } from "@greenroom/protocol/client-server/VersionsApi"
import { NotFound, Unrecognized } from "@greenroom/protocol/MatrixError"
import { defaultRoomVersion } from "@greenroom/room/RoomVersions"
import { stableVersions } from "@greenroom/room/StableVersions"
import { Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { authMetadata } from "../oauth/OAuthEndpoints.ts"
import { paths } from "../oauth/OAuthForms.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

/**
 * The features by the names under which clients look for them. Each entry is true because the feature is served. Some are part of
 * the specification by now, but clients still read their old names: without `org.matrix.e2e_cross_signing` Element Web neither
 * sets up cross-signing nor offers to verify users, without `org.matrix.msc3827.stable` it does not search the room directory for
 * spaces, without `org.matrix.msc3981` it misses reactions in threads, without `com.beeper.msc4169` bridges of mautrix
 * do not send redactions as events, and cannot give the time of one.
 */
const unstableFeatures: Versions["unstable_features"] = {
  "com.beeper.msc4169": true,
  "org.greenroom.contacts": true,
  "org.matrix.e2e_cross_signing": true,
  "org.matrix.msc3391": true,
  "org.matrix.msc3827.stable": true,
  "org.matrix.msc3874": true,
  "org.matrix.msc3916.stable": true,
  "org.matrix.msc3981": true,
  "org.matrix.msc4140": true,
  "org.matrix.msc4155": true,
  "org.matrix.simplified_msc3575": true,
  "uk.half-shot.msc2666.query_mutual_rooms.stable": true,
  "uk.tcpip.msc4133": true,
  "uk.tcpip.msc4133.stable": true
}

/** Versions of the specification are stable; the draft's is this server's own. */
const roomVersions = {
  ...Object.fromEntries(stableVersions.map((version) => [version, "stable"])),
  [defaultRoomVersion.id]: "unstable"
}

/** Signing in by QR code takes the device grant of the OAuth 2.0 API. */
const oauthFeatures = { "org.matrix.msc4108": true, "io.element.msc4388": true }

/** Without it clients of mautrix-go do not ask for the transports of calls. */
const callFeatures = { "org.matrix.msc4143": true }

const noOAuth = Effect.fail(new Unrecognized({ error: "This server does not serve the OAuth 2.0 API" }))

export const versionsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.versions", (handlers) =>
  withServices(function* () {
    const moderation = yield* Moderation
    const oauth = yield* OAuthServer
    const limit = yield* RateLimit
    const publicUrl = yield* PublicUrl
    const validations = yield* AddressValidations
    const { defaultRoomVersion: version = "12", rtcTransports = [] } = yield* HomeServerConfig
    const versions: Versions = {
      versions: specificationVersions,
      unstable_features: {
        ...unstableFeatures,
        ...(oauth.mode === "off" ? {} : oauthFeatures),
        ...(rtcTransports.length === 0 ? {} : callFeatures)
      }
    }
    const hasAddresses = validations.media.length > 0
    /** Clients of the OAuth 2.0 API send their users to the page of the account instead. Guests have no password and one field. */
    const capabilitiesOf = ({ clientId, guest = false }: Session, isAdmin: boolean) => {
      const authenticatesAgain = { enabled: clientId === undefined && !guest }
      return {
        "m.change_password": authenticatesAgain,
        "m.room_versions": { default: version, available: roomVersions },
        "m.set_displayname": { enabled: true },
        "m.set_avatar_url": { enabled: !guest },
        "m.profile_fields": { enabled: true, ...(guest ? { allowed: ["displayname"] } : {}) },
        "m.get_login_token": authenticatesAgain,
        "org.matrix.msc4140.delayed_events": { max_delay_ms: maxDelay, max_scheduled: maxScheduled },
        "m.3pid_changes": { enabled: hasAddresses && authenticatesAgain.enabled },
        ...(isAdmin ? { "m.account_moderation": { suspend: true, lock: true } } : {})
      }
    }
    return handlers
      .handle("versions", () => Effect.succeed(versions))
      .handle("authMetadata", ({ request }) =>
        Effect.andThen(
          limit.takeFrom("anonymous", addressOf(request)),
          oauth.mode === "off" ? noOAuth : Effect.sync(() => authMetadata(publicUrl.get()))
        )
      )
      .handle("authIssuer", () =>
        oauth.mode === "off" ? noOAuth : Effect.sync(() => ({ issuer: `${publicUrl.get()}/` }))
      )
      .handle("capabilities", () =>
        CurrentSession.use((session) =>
          Effect.map(moderation.isAdmin(session), (isAdmin) => ({ capabilities: capabilitiesOf(session, isAdmin) }))
        )
      )
  })
)

export const wellKnownHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.wellKnown", (handlers) =>
  withServices(function* () {
    const publicUrl = yield* PublicUrl
    const { federationAddress, identityServers = [], rtcTransports = [], support = {} } = yield* HomeServerConfig
    const { contacts = [], page } = support
    const [identityServer] = identityServers
    const { mode } = yield* OAuthServer
    const { publicKey } = yield* PolicyServer
    const authentication = (url: string) => ({
      "org.matrix.msc2965.authentication": { issuer: `${url}/`, account: `${url}${paths.account}` }
    })
    return handlers
      .handle("client", () =>
        Effect.sync(() => {
          const url = publicUrl.get()
          return {
            "m.homeserver": { base_url: url },
            ...(identityServer === undefined ? {} : { "m.identity_server": { base_url: identityServer } }),
            ...(rtcTransports.length === 0 ? {} : { "org.matrix.msc4143.rtc_foci": rtcTransports }),
            ...(mode === "off" ? {} : authentication(url))
          }
        })
      )
      .handle("server", () =>
        federationAddress === undefined
          ? Effect.fail(new NotFound({ error: "Other servers reach this one at its server name" }))
          : Effect.succeed({ "m.server": federationAddress })
      )
      .handle("policyServer", () =>
        Option.match(publicKey, {
          onNone: () => Effect.fail(new NotFound({ error: "This server is not a policy server" })),
          onSome: (ed25519) => Effect.succeed({ public_keys: { ed25519 } })
        })
      )
      .handle("support", () =>
        page === undefined && contacts.length === 0
          ? Effect.fail(new NotFound({ error: "The operator has configured no contact" }))
          : Effect.succeed({
              ...(contacts.length === 0 ? {} : { contacts }),
              ...(page === undefined ? {} : { support_page: page })
            })
      )
  })
)
