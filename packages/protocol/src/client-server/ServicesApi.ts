/**
 * Services for other programs, requested by a client: credentials for a TURN server, a token that proves to a third party
 * who the user is, lookups in other networks.
 *
 * Source: "Voice over IP", "OpenID" and "Third-party Networks" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { Absent, body, listBody, OptionalObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { ServerName, UserId } from "../Identifiers.ts"
import { openIdUserInfo, serverServerPrefix } from "../server-server/OpenIdUserInfo.ts"

/** A token that proves the identity of the user to a third party. */
export const OpenIdToken = body(
  Schema.Struct({
    access_token: Schema.String,
    token_type: Schema.Literal("Bearer"),
    matrix_server_name: ServerName,
    expires_in: Schema.Int.annotate({ description: "Seconds" })
  }).annotate({ identifier: "OpenIdToken" })
)

const protocol = { protocol: boundedText(255) }
const fields = Schema.Record(Schema.String, Schema.Json)
const Location = Schema.Struct({ alias: Schema.String, protocol: Schema.String, fields })
const User = Schema.Struct({ userid: UserId, protocol: Schema.String, fields })
const Protocol = Schema.Struct({
  user_fields: Schema.Array(Schema.String),
  location_fields: Schema.Array(Schema.String),
  icon: Schema.optionalKey(Schema.String),
  field_types: Schema.Record(Schema.String, Schema.Struct({ regexp: Schema.String, placeholder: Schema.String })),
  instances: Schema.Array(
    Schema.Struct({
      desc: Schema.String,
      network_id: Schema.String,
      icon: Schema.optionalKey(Schema.String),
      fields,
      instance_id: Schema.optionalKey(Schema.String)
    })
  )
}).annotate({ identifier: "ThirdPartyProtocol" })
const TurnServer = body(
  Schema.Struct({
    username: Schema.optionalKey(Schema.String),
    password: Schema.optionalKey(Schema.String),
    uris: Schema.optionalKey(Schema.Array(Schema.String)),
    ttl: Schema.optionalKey(Schema.Int)
  }).annotate({ identifier: "TurnServer" })
)

export class ServicesApi extends HttpApiGroup.make("clientServer.services")
  .add(
    HttpApiEndpoint.get("turnServer", "/v3/voip/turnServer", { success: TurnServer }).annotateMerge(
      documented({
        summary: "Credentials for a TURN server",
        text: "`{}` if no TURN server is configured, as in Synapse: the specification defines no answer for this case.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.get("rtcTransports", "/v1/rtc/transports", {
      success: body(Schema.Struct({ rtc_transports: Schema.Array(Schema.Record(Schema.String, Schema.Unknown)) }))
    }).annotateMerge(
      documented({
        summary: "The services for calls of several people",
        text: "Also at its unstable name of MSC4143.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.post("openIdToken", "/v3/user/:userId/openid/request_token", {
      params: { userId: UserId },
      payload: OptionalObject,
      success: OpenIdToken
    }).annotateMerge(
      documented({
        summary: "An OpenID token, which proves the identity of the user to a third party",
        text: "The third party asks `GET /_matrix/federation/v1/openid/userinfo`. It gives no access to the account.",
        who: "the user"
      })
    ),
    HttpApiEndpoint.post("pingAppService", "/v1/appservice/:appserviceId/ping", {
      params: { appserviceId: boundedText(255) },
      payload: [Schema.Struct({ transaction_id: Schema.optionalKey(boundedText(255)) }), Absent],
      success: body(Schema.Struct({ duration_ms: Schema.Int }))
    }).annotateMerge(
      documented({
        summary: "Have this server ping the application service",
        text: "Errors: M_URL_NOT_SET, M_BAD_STATUS, M_CONNECTION_FAILED, M_CONNECTION_TIMEOUT.",
        who: "the application service itself"
      })
    ),
    HttpApiEndpoint.get("protocols", "/v3/thirdparty/protocols", {
      success: body(Schema.Record(Schema.String, Protocol))
    }).annotateMerge(documented({ summary: "The networks that application services reach", who: "any user" })),
    HttpApiEndpoint.get("protocol", "/v3/thirdparty/protocol/:protocol", {
      params: protocol,
      success: body(Protocol)
    }).annotateMerge(documented({ summary: "One network", text: "Errors: M_NOT_FOUND.", who: "any user" })),
    HttpApiEndpoint.get("locationsOfProtocol", "/v3/thirdparty/location/:protocol", {
      params: protocol,
      success: listBody(Schema.Array(Location))
    }).annotateMerge(documented({ summary: "Rooms of a network", text: "Errors: M_NOT_FOUND.", who: "any user" })),
    HttpApiEndpoint.get("usersOfProtocol", "/v3/thirdparty/user/:protocol", {
      params: protocol,
      success: listBody(Schema.Array(User))
    }).annotateMerge(documented({ summary: "Users of a network", text: "Errors: M_NOT_FOUND.", who: "any user" })),
    HttpApiEndpoint.get("locations", "/v3/thirdparty/location", {
      query: { alias: boundedText(255) },
      success: listBody(Schema.Array(Location))
    }).annotateMerge(documented({ summary: "The locations of a room alias in other networks", who: "any user" })),
    HttpApiEndpoint.get("users", "/v3/thirdparty/user", {
      query: { userid: boundedText(255) },
      success: listBody(Schema.Array(User))
    }).annotateMerge(documented({ summary: "The names of a user in other networks", who: "any user" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Services for third parties" })) {}

/** What third parties ask here about users of this server. */
export class OpenIdApi extends HttpApiGroup.make("clientServer.openId")
  .add(openIdUserInfo)
  .prefix(serverServerPrefix)
  .annotateMerge(OpenApi.annotations({ title: "OpenID" })) {}
