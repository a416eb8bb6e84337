/**
 * A whole home server without HTTP, to embed in another Effect program:
 *
 *     const program = Effect.gen(function* () {
 *       const accounts = yield* Accounts
 *       const rooms = yield* Rooms
 *       ...
 *     })
 *     program.pipe(Effect.provide(HomeServer.layer({ serverName: ServerName.make("example.org"), dataDir: "./data" })))
 *
 * The services that it provides are those that the gateways use.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { AccountStandingStore } from "@greenroom/store/AccountStandingStore"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AddressValidationStore } from "@greenroom/store/AddressValidationStore"
import { AppServiceStore } from "@greenroom/store/AppServiceStore"
import { AuditStore } from "@greenroom/store/AuditStore"
import { AuthChainStore } from "@greenroom/store/AuthChainStore"
import { BanStore } from "@greenroom/store/BanStore"
import { ClientSettingsStore } from "@greenroom/store/ClientSettingsStore"
import { ContactStore } from "@greenroom/store/ContactStore"
import { CrossSigningStore } from "@greenroom/store/CrossSigningStore"
import * as Database from "@greenroom/store/Database"
import { DehydratedDeviceStore } from "@greenroom/store/DehydratedDeviceStore"
import { DelayedEventStore } from "@greenroom/store/DelayedEventStore"
import { DeviceKeyStore } from "@greenroom/store/DeviceKeyStore"
import { DeviceListStore } from "@greenroom/store/DeviceListStore"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { EarlyReceiptStore } from "@greenroom/store/EarlyReceiptStore"
import { ErasureStore } from "@greenroom/store/ErasureStore"
import { EventLog } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { ForgottenRoomStore } from "@greenroom/store/ForgottenRoomStore"
import { IdTokenKeyStore } from "@greenroom/store/IdTokenKeyStore"
import { KeyBackupStore } from "@greenroom/store/KeyBackupStore"
import { LoginAttemptStore } from "@greenroom/store/LoginAttemptStore"
import { LoginSessionStore } from "@greenroom/store/LoginSessionStore"
import { MediaStore } from "@greenroom/store/MediaStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { NotificationStore } from "@greenroom/store/NotificationStore"
import { OAuthClientStore } from "@greenroom/store/OAuthClientStore"
import { OpenIdTokenStore } from "@greenroom/store/OpenIdTokenStore"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingMailStore } from "@greenroom/store/OutgoingMailStore"
import { OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import { PolicyKeyStore } from "@greenroom/store/PolicyKeyStore"
import { PolicyVerdictStore } from "@greenroom/store/PolicyVerdictStore"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { PublicRoomStore } from "@greenroom/store/PublicRoomStore"
import { PusherStore } from "@greenroom/store/PusherStore"
import { ReceiptStore } from "@greenroom/store/ReceiptStore"
import { ReceivedTransactionStore } from "@greenroom/store/ReceivedTransactionStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { RelationStore } from "@greenroom/store/RelationStore"
import { RemoteDeviceListStore } from "@greenroom/store/RemoteDeviceListStore"
import { RendezvousStore } from "@greenroom/store/RendezvousStore"
import { ReportStore } from "@greenroom/store/ReportStore"
import { RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { SearchStore } from "@greenroom/store/SearchStore"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { SessionSignals } from "@greenroom/store/SessionSignals"
import { ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { SlidingConnectionStore } from "@greenroom/store/SlidingConnectionStore"
import { SlidingRoomStore } from "@greenroom/store/SlidingRoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { SyncStore } from "@greenroom/store/SyncStore"
import { ThirdPartyInviteStore } from "@greenroom/store/ThirdPartyInviteStore"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { UnfinishedUpgradeStore } from "@greenroom/store/UnfinishedUpgradeStore"
import { UnreadStore } from "@greenroom/store/UnreadStore"
import { UserDirectoryStore } from "@greenroom/store/UserDirectoryStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { UserRedactionStore } from "@greenroom/store/UserRedactionStore"
import { WaitingEventStore } from "@greenroom/store/WaitingEventStore"
import { Effect, Layer } from "effect"
import type { Sharding } from "effect/cluster"
import type { SqlClient } from "effect/sql"
import { AccountStandings } from "./account/AccountStandings.ts"
import { Accounts } from "./account/Accounts.ts"
import { AddressValidations } from "./account/AddressValidations.ts"
import { Administration } from "./account/Administration.ts"
import { AppServiceAccounts } from "./account/AppServiceAccounts.ts"
import { DehydratedDevices } from "./account/DehydratedDevices.ts"
import { InteractiveAuth } from "./account/InteractiveAuth.ts"
import { Login } from "./account/Login.ts"
import { LoginMethods } from "./account/LoginMethods.ts"
import { LoginConfig } from "./account/login/LoginConfig.ts"
import { LoginFlows } from "./account/login/LoginFlows.ts"
import type { LoginOptions } from "./account/login/LoginOptions.ts"
import { LoginThrottle } from "./account/login/LoginThrottle.ts"
import * as NotificationMailerLive from "./account/login/NotificationMailerLive.ts"
import * as OutgoingMails from "./account/login/OutgoingMails.ts"
import { SsoLogins } from "./account/login/SsoLogins.ts"
import { Moderation } from "./account/Moderation.ts"
import { OpenIdTokens } from "./account/OpenIdTokens.ts"
import { BrowserSessions } from "./account/oauth/BrowserSessions.ts"
import { OAuthServer } from "./account/oauth/OAuthServer.ts"
import { PasswordCheck } from "./account/PasswordCheck.ts"
import { Passwords } from "./account/Passwords.ts"
import { Registration } from "./account/Registration.ts"
import { Rendezvous } from "./account/Rendezvous.ts"
import { SharedSecretRegistration } from "./account/SharedSecretRegistration.ts"
import { Voip } from "./account/Voip.ts"
import { AdminServices } from "./admin/AdminServices.ts"
import { AuditLog } from "./admin/AuditLog.ts"
import { AppServiceBackOff } from "./app-service/AppServiceBackOff.ts"
import { AppServiceClient } from "./app-service/AppServiceClient.ts"
import { AppServicePing } from "./app-service/AppServicePing.ts"
import { AppServiceQueries } from "./app-service/AppServiceQueries.ts"
import * as AppServiceSender from "./app-service/AppServiceSender.ts"
import { AppServiceSessions } from "./app-service/AppServiceSessions.ts"
import { AppServices } from "./app-service/AppServices.ts"
import { Contacts } from "./contacts/Contacts.ts"
import { DeviceResyncs } from "./federation/DeviceResyncs.ts"
import { EduReceiver } from "./federation/EduReceiver.ts"
import type { FederationOptions } from "./federation/FederationConfig.ts"
import * as FederationLayer from "./federation/FederationLayer.ts"
import * as FederationLive from "./federation/FederationLive.ts"
import { FederationRooms } from "./federation/FederationRooms.ts"
import { OutgoingEdus } from "./federation/OutgoingEdus.ts"
import { OutgoingPresence } from "./federation/OutgoingPresence.ts"
import * as OutgoingReceipts from "./federation/OutgoingReceipts.ts"
import * as OutgoingTyping from "./federation/OutgoingTyping.ts"
import * as Peer from "./federation/Peer.ts"
import { Peers } from "./federation/Peers.ts"
import { PolicyServer } from "./federation/PolicyServer.ts"
import { RemoteDeviceLists } from "./federation/RemoteDeviceLists.ts"
import * as RemoteDevices from "./federation/RemoteDevices.ts"
import { RemotePresences } from "./federation/RemotePresences.ts"
import { RemoteQueries } from "./federation/RemoteQueries.ts"
import * as RemoteRoomsLive from "./federation/RemoteRoomsLive.ts"
import { ServerServer } from "./federation/ServerServer.ts"
import { TransactionReceiver } from "./federation/TransactionReceiver.ts"
import * as UnverifiedPdus from "./federation/UnverifiedPdus.ts"
import { IdentityClient } from "./identity/IdentityClient.ts"
import { ThirdPartyIds } from "./identity/ThirdPartyIds.ts"
import { ThirdPartyInvites } from "./identity/ThirdPartyInvites.ts"
import * as DatabaseFiles from "./media/DatabaseFiles.ts"
import { Media } from "./media/Media.ts"
import { MediaConfig, type MediaOptions } from "./media/MediaConfig.ts"
import { MediaKeeping } from "./media/MediaKeeping.ts"
import { RemoteMedia } from "./media/RemoteMedia.ts"
import * as S3Files from "./media/S3Files.ts"
import { Thumbnails } from "./media/Thumbnails.ts"
import { UrlPreviews } from "./media/UrlPreviews.ts"
import { PolicyConfig, type PolicyOptions } from "./policy/PolicyConfig.ts"
import { EphemeralStream } from "./presence/EphemeralStream.ts"
import * as Presence from "./presence/Presence.ts"
import { Presences } from "./presence/Presences.ts"
import * as TypingOfLostNodes from "./presence/TypingOfLostNodes.ts"
import { DelayedEvents } from "./room/DelayedEvents.ts"
import { ErasedUsers } from "./room/ErasedUsers.ts"
import * as GuestAccess from "./room/GuestAccess.ts"
import { PresetRooms } from "./room/PresetRooms.ts"
import { Receipts } from "./room/Receipts.ts"
import { Relations } from "./room/Relations.ts"
import * as Room from "./room/Room.ts"
import { RoomFinder } from "./room/RoomFinder.ts"
import { RoomReader } from "./room/RoomReader.ts"
import { RoomSummaries } from "./room/RoomSummaries.ts"
import { Rooms } from "./room/Rooms.ts"
import { RoomUpgrades } from "./room/RoomUpgrades.ts"
import { Search } from "./room/Search.ts"
import { Bans } from "./runtime/Bans.ts"
import * as ClusterRunner from "./runtime/ClusterRunner.ts"
import { DatabaseHealth } from "./runtime/DatabaseHealth.ts"
import { Departure } from "./runtime/Departure.ts"
import { HomeServerConfig, type HomeServerSettings } from "./runtime/HomeServerConfig.ts"
import * as LocalRunner from "./runtime/LocalRunner.ts"
import * as LogFollowers from "./runtime/LogFollowers.ts"
import type { Nodes } from "./runtime/Nodes.ts"
import { PublicUrl } from "./runtime/PublicUrl.ts"
import { SessionRevocations } from "./runtime/SessionRevocations.ts"
import { DeprecatedSync } from "./sync/DeprecatedSync.ts"
import { DeviceLists } from "./sync/DeviceLists.ts"
import { Events } from "./sync/Events.ts"
import { Feeds } from "./sync/Feeds.ts"
import { SlidingSync } from "./sync/SlidingSync.ts"
import { Sync } from "./sync/Sync.ts"
import { AccountData } from "./user/AccountData.ts"
import { CrossSigning } from "./user/encryption/CrossSigning.ts"
import { DeviceKeys } from "./user/encryption/DeviceKeys.ts"
import { KeyBackups } from "./user/encryption/KeyBackups.ts"
import { RemoteDeviceKeys } from "./user/encryption/RemoteDeviceKeys.ts"
import { ToDevice } from "./user/encryption/ToDevice.ts"
import * as PresenceInvitationsLive from "./user/PresenceInvitationsLive.ts"
import * as MemberPushRulesLive from "./user/push/MemberPushRulesLive.ts"
import { Notifications } from "./user/push/Notifications.ts"
import * as PushDelivery from "./user/push/PushDelivery.ts"
import { Pushers } from "./user/push/Pushers.ts"
import { PushGateway } from "./user/push/PushGateway.ts"
import * as PushPruning from "./user/push/PushPruning.ts"
import { UserPushRules } from "./user/push/UserPushRules.ts"
import * as RoomSuccessionLive from "./user/RoomSuccessionLive.ts"
import * as User from "./user/User.ts"
import { Users } from "./user/Users.ts"

/** Settings that an embedding program or the gateway app gives the home server. Read once, at the start. */
export interface HomeServerOptions extends HomeServerSettings {
  /** Flows, mail, OAuth2 providers (default: the password alone). */
  readonly login?: LoginOptions
  /** How other home servers are reached. */
  readonly federation?: FederationOptions
  /** The storage of files, and their maximum size. */
  readonly media?: MediaOptions
  /** Whether this server is a policy server of rooms (default: it is not). */
  readonly policy?: PolicyOptions
}

/** The tables, each with its one owner. */
const stores = (options: HomeServerOptions) =>
  Layer.mergeAll(
    AccountStandingStore.layer,
    AccountStore.layer,
    AuditStore.layer,
    BanStore.layer,
    RoomRemovalStore.layer,
    UserRedactionStore.layer,
    AddressValidationStore.layer,
    ClientSettingsStore.layer,
    ContactStore.layer,
    KeyBackupStore.layer,
    DehydratedDeviceStore.layer,
    RendezvousStore.layer,
    DelayedEventStore.layer,
    DeviceListStore.layer,
    DirectoryStore.layer,
    EarlyReceiptStore.layer,
    ErasureStore.layer,
    EventLog.layer,
    EventStore.layer,
    OAuthClientStore.layer,
    IdTokenKeyStore.layer,
    OpenIdTokenStore.layer,
    OutgoingEduStore.layer,
    OutgoingReceiptStore.layer,
    OutgoingMailStore.layer,
    ForgottenRoomStore.layer,
    ReportStore.layer,
    UserDirectoryStore.layer,
    LoginAttemptStore.layer,
    LoginSessionStore.layer,
    MediaStore.layer,
    PresenceListStore.layer,
    PresenceStore.layer,
    ProfileStore.layer,
    PublicRoomStore.layer,
    RegistrationTokenStore.layer,
    RemoteDeviceListStore.layer(options.serverName),
    RelationStore.layer,
    RoomServerStore.layer,
    ServerSettings.layer(options.serverName),
    SessionSignals.layer,
    ShardFenceStore.layer,
    SigningKeys.layer(options.serverName),
    PolicyKeyStore.layer(options.serverName),
    PolicyVerdictStore.layer,
    AuthChainStore.layer,
    StateStore.layer,
    AppServiceStore.layer,
    SlidingConnectionStore.layer,
    SlidingRoomStore.layer,
    SyncStore.layer,
    ThirdPartyInviteStore.layer,
    NoticeStore.layer,
    NotificationStore.layer,
    PusherStore.layer,
    SearchStore.layer,
    UnreadStore.layer,
    UserIdentityStore.layer,
    WaitingEventStore.layer
  )

/** The tables whose writers announce to the log of this node what they wrote, or that it is nothing of the log. */
const storesOfLog = Layer.mergeAll(
  AccountDataStore.layer,
  CrossSigningStore.layer,
  DeviceKeyStore.layer,
  OutgoingStore.layer,
  ReceiptStore.layer,
  ReceivedTransactionStore.layer,
  RoomStore.layer,
  ShortLivedStore.layer,
  ToDeviceStore.layer,
  UnfinishedMembershipStore.layer,
  UnfinishedUpgradeStore.layer
)

/** The actors, with the services through which they reach other servers. */
const actors = Layer.mergeAll(Room.layer, Presence.layer(), User.layer, Peer.layer, RemoteDevices.layer).pipe(
  Layer.provideMerge(FederationRooms.layer),
  Layer.provideMerge(RemoteRoomsLive.layer),
  Layer.provideMerge(PolicyServer.layer)
)

/** Requests of the services to other servers. */
const otherServers = Layer.mergeAll(
  OutgoingEdus.layer,
  RemotePresences.layer,
  RemoteQueries.layer,
  OutgoingReceipts.layer,
  RemoteDeviceLists.layer
).pipe(Layer.provideMerge(Peers.layer), Layer.provideMerge(DeviceResyncs.layer))

/** Requests of other servers, and the presence and typing that they receive. */
const federation = Layer.merge(ServerServer.layer, UnverifiedPdus.layer).pipe(
  Layer.provideMerge(FederationLive.layer),
  Layer.provideMerge(TransactionReceiver.layer),
  Layer.provideMerge(EduReceiver.layer),
  Layer.provideMerge(PresenceInvitationsLive.layer),
  Layer.provideMerge(Layer.merge(OutgoingPresence.layer, OutgoingTyping.layer))
)

/** Requests to and from identity servers. */
const addresses = Layer.mergeAll(ThirdPartyIds.layer, ThirdPartyInvites.layer, Contacts.layer).pipe(
  Layer.provide(IdentityClient.layer)
)

/** The services over the actors, which in turn call them. */
const services = Layer.mergeAll(
  Layer.mergeAll(Events.layer, DeprecatedSync.layer, SlidingSync.layer).pipe(
    Layer.provideMerge(Sync.layer),
    Layer.provide(Feeds.layer)
  ),
  Receipts.layer,
  GuestAccess.layer,
  RoomSummaries.layer,
  Search.layer,
  SharedSecretRegistration.layer,
  PresetRooms.layer,
  RoomUpgrades.layer,
  RoomFinder.layer,
  AppServiceAccounts.layer,
  AppServicePing.layer,
  AppServiceSender.layer,
  LoginFlows.layer,
  OutgoingMails.layer,
  OAuthServer.layer,
  BrowserSessions.layer,
  PasswordCheck.layer,
  Login.layer.pipe(Layer.provideMerge(SsoLogins.layer)),
  Registration.layer,
  Moderation.layer.pipe(Layer.provideMerge(Administration.layer(Accounts))),
  LoginMethods.layer,
  DatabaseHealth.layer,
  Layer.mergeAll(
    Media.layer.pipe(Layer.provide(RemoteMedia.layer)),
    Thumbnails.layer,
    MediaKeeping.layer,
    UrlPreviews.layer
  ),
  Layer.mergeAll(PushDelivery.layer, PushPruning.layer, Pushers.layer).pipe(
    Layer.provideMerge(Notifications.layer),
    Layer.provide([PushGateway.layer, NotificationMailerLive.layer])
  ),
  TypingOfLostNodes.layer,
  LogFollowers.layer,
  Layer.mergeAll(
    DehydratedDevices.layer.pipe(Layer.provideMerge(DeviceKeys.layer)),
    Rendezvous.layer,
    CrossSigning.layer,
    DeviceLists.layer,
    ToDevice.layer,
    KeyBackups.layer,
    RemoteDeviceKeys.layer
  ),
  addresses
).pipe(
  Layer.provideMerge(Layer.merge(InteractiveAuth.layer, AccountData.layer)),
  Layer.provideMerge(AddressValidations.layer),
  Layer.provideMerge(Accounts.layer),
  Layer.provideMerge(DelayedEvents.layer),
  Layer.provideMerge(AccountStandings.layer),
  Layer.provideMerge(Users.layer),
  Layer.provideMerge(Layer.mergeAll(Rooms.layer, RoomReader.layer, Relations.layer)),
  Layer.provideMerge(RoomSuccessionLive.layer),
  Layer.provideMerge(Layer.merge(AppServiceQueries.layer, AppServiceSessions.layer)),
  Layer.provideMerge(Layer.mergeAll(AppServiceBackOff.layer, AppServiceClient.layer, AppServices.layer)),
  Layer.provideMerge(Layer.merge(UserPushRules.layer, MemberPushRulesLive.layer)),
  Layer.provideMerge(Presences.layer),
  Layer.provideMerge(Layer.mergeAll(Voip.layer, OpenIdTokens.layer, Passwords.layer, LoginThrottle.layer, otherServers))
)

/** The runner of the actors: `LocalRunner.layer()` for this process, `ClusterRunner.layer(...)` for all nodes of a cluster. */
export type Runner<E = never> = Layer.Layer<Sharding.Sharding | Nodes, E, SqlClient.SqlClient | ServerSettings>

/** Works around a fault of V8 (`JsonParse`) before the first event is read. */
const jsonParse = Layer.effectDiscard(Effect.sync(mendJsonParse))

/** A home server on a database of the program, whose `SqlClient` it needs. `runner` says where actors run. */
export const layerOnDatabase = <E = never>(options: HomeServerOptions, runner: Runner<E> = LocalRunner.layer()) =>
  federation.pipe(
    Layer.provideMerge(AdminServices.layer),
    Layer.provideMerge(AuditLog.layer),
    Layer.provideMerge(actors),
    Layer.provideMerge(services),
    Layer.provideMerge(FederationLayer.layer(options.federation)),
    Layer.provideMerge(Bans.layer),
    Layer.provideMerge(Layer.mergeAll(EphemeralStream.layer, SessionRevocations.layer, ErasedUsers.layer)),
    Layer.provideMerge(storesOfLog),
    Layer.provideMerge(DatabaseFiles.layerOver(S3Files.layerConfigured(options.media?.s3))),
    Layer.merge(S3Files.checkAtStart(options.media?.s3)),
    Layer.provideMerge(runner),
    Layer.provideMerge(stores(options)),
    Layer.provideMerge(Layer.mergeAll(Layer.succeed(HomeServerConfig, options), PublicUrl.layer, Departure.layer)),
    Layer.provideMerge(Layer.succeed(LoginConfig, options.login ?? {})),
    Layer.provideMerge(Layer.succeed(MediaConfig, options.media ?? {})),
    Layer.provideMerge(Layer.succeed(PolicyConfig, options.policy ?? {})),
    Layer.provideMerge(NodeCrypto.layer),
    Layer.provide([NodeFileSystem.layer, NodePath.layer, jsonParse])
  )

/**
 * A home server with its database: the embedded PostgreSQL in `dataDir`, or the one at `databaseUrl`. The program must
 * end when `DatabaseHold` is lost.
 */
export const layer = (options: HomeServerOptions) =>
  layerOnDatabase(options).pipe(Layer.provideMerge(Database.exclusiveLayer(options)))

/** One node of a home server of several, which share the database at `databaseUrl`. */
export const clusterLayer = (options: HomeServerOptions, node: ClusterRunner.ClusterRunnerOptions) =>
  layerOnDatabase(options, ClusterRunner.layer(node)).pipe(Layer.provideMerge(Database.clusterLayer(options)))
