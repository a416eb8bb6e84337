/**
 * Today's client API as one definition: the gateway serves it, the typed client calls it, `/docs/client-server`
 * describes it, `docs/matrix.md` is generated from it. One file a chapter of the specification.
 *
 * The paths are those of the newest spelling; `CanonicalPath` turns the others into it before routing.
 *
 * Source: the client-server specification.
 */
import { HttpApi, OpenApi } from "effect/http-api"
import { clientDocumentation } from "../api/ClientDocumentation.ts"
import { clientServerPrefix } from "./CanonicalPath.ts"
import { ClientErrors } from "./ClientErrors.ts"
import { ContactsApi } from "./ContactsApi.ts"
import { CreateRoomApi } from "./CreateRoomApi.ts"
import { DehydratedDeviceApi } from "./DehydratedDeviceApi.ts"
import { DelayedEventsApi } from "./DelayedEventsApi.ts"
import { DeprecatedSyncApi } from "./DeprecatedSyncApi.ts"
import { DeviceApi } from "./DeviceApi.ts"
import { DirectoryApi } from "./DirectoryApi.ts"
import { EncryptionApi } from "./EncryptionApi.ts"
import { FinderApi } from "./FinderApi.ts"
import { KeyBackupApi } from "./KeyBackupApi.ts"
import { LoginApi } from "./LoginApi.ts"
import { MediaApi, OldMediaApi, UploadApi } from "./MediaApi.ts"
import { ModerationApi } from "./ModerationApi.ts"
import { PresenceApi, ProfileApi } from "./ProfileApi.ts"
import { PushersApi, UnsubscribeApi } from "./PushersApi.ts"
import { RegistrationApi } from "./RegistrationApi.ts"
import { RelationsApi } from "./RelationsApi.ts"
import { RendezvousApi } from "./RendezvousApi.ts"
import { RoomListApi } from "./RoomListApi.ts"
import { RoomsApi } from "./RoomsApi.ts"
import { SearchApi } from "./SearchApi.ts"
import { OpenIdApi, ServicesApi } from "./ServicesApi.ts"
import { SessionApi } from "./SessionApi.ts"
import { SharedSecretApi } from "./SharedSecretApi.ts"
import { SlidingSyncApi } from "./SlidingSyncApi.ts"
import { SsoApi, SsoPagesApi } from "./SsoApi.ts"
import { SyncApi } from "./SyncApi.ts"
import { AddressPagesApi, AddressValidationApi, PasswordApi, ThirdPartyIdApi } from "./ThirdPartyIdApi.ts"
import { AccountDataApi, PushRulesApi, ReceiptsApi } from "./UserDataApi.ts"
import { VersionsApi, WellKnownApi } from "./VersionsApi.ts"

const api = HttpApi.make("ClientServerApi")
  .add(VersionsApi, LoginApi, RegistrationApi, SessionApi, DeviceApi, PasswordApi, RoomsApi)
  .add(AddressValidationApi, ThirdPartyIdApi, SsoApi)
  .add(CreateRoomApi, FinderApi, RoomListApi, RelationsApi, SyncApi, AccountDataApi, PushRulesApi)
  .add(SlidingSyncApi, PushersApi, ReceiptsApi, SearchApi, EncryptionApi, KeyBackupApi)
  .add(DirectoryApi, ProfileApi, PresenceApi, ServicesApi, MediaApi, ModerationApi, DeprecatedSyncApi)
  .add(DelayedEventsApi, DehydratedDeviceApi, RendezvousApi, ContactsApi)
  .prefix(clientServerPrefix)
  .add(WellKnownApi, SharedSecretApi, AddressPagesApi, UnsubscribeApi, SsoPagesApi, UploadApi, OldMediaApi, OpenIdApi)
  .middleware(ClientErrors)

export const ClientServerApi = api.annotateMerge(
  OpenApi.annotations({
    title: "Greenroom: the Matrix client-server API",
    version: "v3",
    description:
      "The API of today's clients; that of 2014 has [its own page](/docs). " +
      'Bodies are JSON objects in UTF-8. Every error is `{"errcode": "M_...", "error": "..."}`.',
    transform: clientDocumentation(api as never)
  })
)
export type ClientServerApi = typeof ClientServerApi
