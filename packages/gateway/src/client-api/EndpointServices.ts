/**
 * The services that endpoints use, as one service. An endpoint keeps the context in which it was made, and every request copies
 * that context: it has this one reference instead of some twenty.
 */
import type { AccountStandings } from "@greenroom/actors/account/AccountStandings"
import type { Accounts } from "@greenroom/actors/account/Accounts"
import type { AddressValidations } from "@greenroom/actors/account/AddressValidations"
import type { Administration } from "@greenroom/actors/account/Administration"
import type { AppServiceAccounts } from "@greenroom/actors/account/AppServiceAccounts"
import type { DehydratedDevices } from "@greenroom/actors/account/DehydratedDevices"
import type { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import type { Login } from "@greenroom/actors/account/Login"
import type { LoginMethods } from "@greenroom/actors/account/LoginMethods"
import type { LoginFlows } from "@greenroom/actors/account/login/LoginFlows"
import type { LoginThrottle } from "@greenroom/actors/account/login/LoginThrottle"
import type { SsoLogins } from "@greenroom/actors/account/login/SsoLogins"
import type { Moderation } from "@greenroom/actors/account/Moderation"
import type { OpenIdTokens } from "@greenroom/actors/account/OpenIdTokens"
import type { BrowserSessions } from "@greenroom/actors/account/oauth/BrowserSessions"
import type { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import type { PasswordCheck } from "@greenroom/actors/account/PasswordCheck"
import type { Registration } from "@greenroom/actors/account/Registration"
import type { Rendezvous } from "@greenroom/actors/account/Rendezvous"
import type { SharedSecretRegistration } from "@greenroom/actors/account/SharedSecretRegistration"
import type { Voip } from "@greenroom/actors/account/Voip"
import type { AdminServices } from "@greenroom/actors/admin/AdminServices"
import type { AuditLog } from "@greenroom/actors/admin/AuditLog"
import type { AppServicePing } from "@greenroom/actors/app-service/AppServicePing"
import type { AppServiceQueries } from "@greenroom/actors/app-service/AppServiceQueries"
import type { AppServiceSessions } from "@greenroom/actors/app-service/AppServiceSessions"
import type { AppServices } from "@greenroom/actors/app-service/AppServices"
import type { Contacts } from "@greenroom/actors/contacts/Contacts"
import type { Peers } from "@greenroom/actors/federation/Peers"
import type { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import type { ThirdPartyIds } from "@greenroom/actors/identity/ThirdPartyIds"
import type { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import type { Media } from "@greenroom/actors/media/Media"
import type { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import type { Thumbnails } from "@greenroom/actors/media/Thumbnails"
import type { UrlPreviews } from "@greenroom/actors/media/UrlPreviews"
import type { Presences } from "@greenroom/actors/presence/Presences"
import type { DelayedEvents } from "@greenroom/actors/room/DelayedEvents"
import type { PresetRooms } from "@greenroom/actors/room/PresetRooms"
import type { Receipts } from "@greenroom/actors/room/Receipts"
import type { Relations } from "@greenroom/actors/room/Relations"
import type { RoomFinder } from "@greenroom/actors/room/RoomFinder"
import type { RoomReader } from "@greenroom/actors/room/RoomReader"
import type { RoomSummaries } from "@greenroom/actors/room/RoomSummaries"
import type { Rooms } from "@greenroom/actors/room/Rooms"
import type { RoomUpgrades } from "@greenroom/actors/room/RoomUpgrades"
import type { Search } from "@greenroom/actors/room/Search"
import type { Bans } from "@greenroom/actors/runtime/Bans"
import type { DatabaseHealth } from "@greenroom/actors/runtime/DatabaseHealth"
import type { Departure } from "@greenroom/actors/runtime/Departure"
import type { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { Nodes } from "@greenroom/actors/runtime/Nodes"
import type { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { SessionRevocations } from "@greenroom/actors/runtime/SessionRevocations"
import type { DeprecatedSync } from "@greenroom/actors/sync/DeprecatedSync"
import type { DeviceLists } from "@greenroom/actors/sync/DeviceLists"
import type { Events } from "@greenroom/actors/sync/Events"
import type { SlidingSync } from "@greenroom/actors/sync/SlidingSync"
import type { Sync } from "@greenroom/actors/sync/Sync"
import type { AccountData } from "@greenroom/actors/user/AccountData"
import type { CrossSigning } from "@greenroom/actors/user/encryption/CrossSigning"
import type { DeviceKeys } from "@greenroom/actors/user/encryption/DeviceKeys"
import type { KeyBackups } from "@greenroom/actors/user/encryption/KeyBackups"
import type { RemoteDeviceKeys } from "@greenroom/actors/user/encryption/RemoteDeviceKeys"
import type { ToDevice } from "@greenroom/actors/user/encryption/ToDevice"
import type { Notifications } from "@greenroom/actors/user/push/Notifications"
import type { Pushers } from "@greenroom/actors/user/push/Pushers"
import type { UserPushRules } from "@greenroom/actors/user/push/UserPushRules"
import type { Users } from "@greenroom/actors/user/Users"
import { Context, Effect } from "effect"
import type { LongPolls } from "../client-server/LongPolls.ts"
import type { RateLimit } from "../RateLimit.ts"
import type { RequestSlots } from "../RequestSlots.ts"
import type { Shutdown } from "../Shutdown.ts"
import type { Sockets } from "../socket/Sockets.ts"

/** The services of the home server that the gateway stands on. */
export type HomeServerServices =
  | LoginThrottle
  | AdminServices
  | AuditLog
  | Bans
  | Departure
  | Nodes
  | Rooms
  | RoomReader
  | SharedSecretRegistration
  | PresetRooms
  | AppServices
  | AppServiceAccounts
  | AppServiceSessions
  | AppServiceQueries
  | AppServicePing
  | RoomUpgrades
  | RoomFinder
  | RoomSummaries
  | Relations
  | Media
  | MediaKeeping
  | Thumbnails
  | UrlPreviews
  | Sync
  | SlidingSync
  | DeprecatedSync
  | DelayedEvents
  | DehydratedDevices
  | Rendezvous
  | Receipts
  | AccountData
  | UserPushRules
  | Search
  | Pushers
  | CrossSigning
  | DeviceKeys
  | RemoteDeviceKeys
  | KeyBackups
  | DeviceLists
  | ToDevice
  | Notifications
  | Events
  | Accounts
  | AccountStandings
  | BrowserSessions
  | SsoLogins
  | PasswordCheck
  | OAuthServer
  | PolicyServer
  | AddressValidations
  | Moderation
  | Users
  | Presences
  | Voip
  | OpenIdTokens
  | LoginFlows
  | InteractiveAuth
  | Registration
  | Login
  | Contacts
  | ThirdPartyIds
  | ThirdPartyInvites
  | Administration
  | Peers
  | LoginMethods
  | DatabaseHealth
  | SessionRevocations
  | HomeServerConfig
  | PublicUrl

/** The services that endpoints may use. */
export type ServicesOfEndpoints = HomeServerServices | LongPolls | RateLimit | RequestSlots | Shutdown | Sockets

export class EndpointServices extends Context.Service<EndpointServices, Context.Context<ServicesOfEndpoints>>()(
  "greenroom/gateway/EndpointServices"
) {}

/** An effect of the services, as `Effect.gen` makes it. */
export const withServices = <Eff extends Effect.Effect<unknown, unknown, ServicesOfEndpoints>, A>(
  make: () => Generator<Eff, A, never>
): Effect.Effect<A, Eff extends Effect.Effect<unknown, infer E, unknown> ? E : never, EndpointServices> =>
  EndpointServices.use((services) => Effect.provideContext(Effect.gen(make), services)) as never
