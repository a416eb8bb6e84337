/**
 * A whole identity server on a database, as a layer: the API over HTTP and the workers behind it.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Layer } from "effect"
import { Accounts } from "./Accounts.ts"
import { Associations } from "./Associations.ts"
import { federationConfig, HomeServers } from "./HomeServers.ts"
import * as Housekeeping from "./Housekeeping.ts"
import { IdentityHttp, type IdentityHttpOptions } from "./IdentityHttp.ts"
import { IdentityOptions, type IdentityOptionsShape } from "./IdentityOptions.ts"
import { MailSender, type SmtpOptions } from "./MailSender.ts"
import * as OnBindDelivery from "./OnBindDelivery.ts"
import { OnBindQueue } from "./OnBindQueue.ts"
import { Peppers } from "./Peppers.ts"
import { ReplicationReceiver } from "./ReplicationReceiver.ts"
import { ReplicationSender } from "./ReplicationSender.ts"
import type { RequestRates } from "./RequestRates.ts"
import { Requests } from "./Requests.ts"
import { Secrets } from "./Secrets.ts"
import { SentMessages } from "./SentMessages.ts"
import { SmsSender, type SmsWebhookOptions } from "./SmsSender.ts"
import { StoredInvites } from "./StoredInvites.ts"
import { Templates } from "./Templates.ts"
import { ValidationSessions } from "./ValidationSessions.ts"

export interface IdentityServerOptions {
  readonly identity: IdentityOptionsShape
  readonly http: IdentityHttpOptions
  readonly smtp?: SmtpOptions | undefined
  readonly sms?: SmsWebhookOptions | undefined
  /** A folder with templates that replace those that came with the server. */
  readonly templatesDir?: string | undefined
  readonly rates: RequestRates
  /** Addresses and networks whose requests are not limited. */
  readonly trustedClients: ReadonlyArray<string>
}

/** The client for requests to configured servers. */
const httpClient = NodeHttpClient.layerNodeHttp

/** The services of the identity server, from the database up. */
const services = ({ identity }: IdentityServerOptions) => {
  const base = Layer.mergeAll(
    Layer.succeed(IdentityOptions, identity),
    SigningKeys.layer(identity.serverName),
    Secrets.layer.pipe(Layer.provide(ServerSettings.layer(identity.serverName)))
  )
  return ReplicationSender.layer.pipe(
    Layer.provideMerge(ReplicationReceiver.layer),
    Layer.provideMerge(Layer.mergeAll(Accounts.layer, Associations.layer, ValidationSessions.layer)),
    Layer.provideMerge(Layer.mergeAll(OnBindQueue.layer, Peppers.layer, SentMessages.layer, StoredInvites.layer)),
    Layer.provideMerge(HomeServers.layer.pipe(Layer.provide(federationConfig))),
    Layer.provideMerge(Layer.mergeAll(base, httpClient, Departure.layer))
  )
}

/** The listening server. Needs a migrated database (`IdentityDatabase`) and the file system. */
export const layer = (options: IdentityServerOptions) =>
  Layer.mergeAll(IdentityHttp.layer(options.http), OnBindDelivery.layer, Housekeeping.layer).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        MailSender.layer(options.smtp),
        SmsSender.layer(options.sms).pipe(Layer.provide(httpClient)),
        Templates.layer(options.templatesDir),
        Requests.layer(options)
      )
    ),
    Layer.provideMerge(services(options))
  )
