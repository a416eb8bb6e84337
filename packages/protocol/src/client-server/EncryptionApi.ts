/**
 * Keys of devices for end-to-end encryption, and messages to devices.
 *
 * Source: "End-to-End Encryption" and "Send-to-Device messaging" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, ReadOnly } from "../api/Authentication.ts"
import { AnyPayload, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { EventType, TransactionId } from "../api/Parameters.ts"
import { UserId } from "../Identifiers.ts"
import { Integer, JsonObject } from "../Json.ts"
import { OptionalAuth } from "./Auth.ts"
import { Token } from "./RoomsApi.ts"

const Keys = Schema.optionalKey(Schema.NullOr(AnyPayload))

const KeyUpload = Schema.Struct({
  device_keys: Keys,
  one_time_keys: Keys,
  fallback_keys: Keys,
  "org.matrix.msc2732.fallback_keys": Keys
})

const byKey = <S extends Schema.Top>(value: S) => Schema.Record(Schema.String, value)
const Signatures = byKey(byKey(Schema.String)).annotate({ description: "By user, then by key" })

const DeviceKeys = Schema.Struct({
  user_id: UserId,
  device_id: Schema.String,
  algorithms: Schema.Array(Schema.String),
  keys: byKey(Schema.String),
  signatures: Schema.optionalKey(Signatures),
  unsigned: Schema.optionalKey(Schema.Struct({ device_display_name: Schema.optionalKey(Schema.String) }))
}).annotate({ identifier: "DeviceKeys" })

const CrossSigningKey = Schema.Struct({
  user_id: UserId,
  usage: Schema.Array(Schema.String),
  keys: byKey(Schema.String),
  signatures: Schema.optionalKey(Signatures)
}).annotate({ identifier: "CrossSigningKey" })

const failures = Schema.optionalKey(byKey(JsonObject).annotate({ description: "By the names of servers" }))
const OneTimeKey = Schema.Union([Schema.String, JsonObject])

const KeyCounts = body(Schema.Struct({ one_time_key_counts: byKey(Schema.Int) }))
const FoundKeys = body(
  Schema.Struct({
    device_keys: Schema.optionalKey(byKey(byKey(DeviceKeys))),
    master_keys: Schema.optionalKey(byKey(CrossSigningKey)),
    self_signing_keys: Schema.optionalKey(byKey(CrossSigningKey)),
    user_signing_keys: Schema.optionalKey(byKey(CrossSigningKey)),
    failures
  }).annotate({ identifier: "FoundKeys" })
)
const ClaimedKeys = body(
  Schema.Struct({ one_time_keys: byKey(byKey(byKey(OneTimeKey))), failures }).annotate({ identifier: "ClaimedKeys" })
)
const RefusedSignatures = body(Schema.Struct({ failures: Schema.optionalKey(byKey(byKey(JsonObject))) }))
const ChangedKeys = body(
  Schema.Struct({
    changed: Schema.optionalKey(Schema.Array(UserId)),
    left: Schema.optionalKey(Schema.Array(UserId))
  }).annotate({ identifier: "ChangedKeys" })
)

export class EncryptionApi extends HttpApiGroup.make("clientServer.encryption")
  .add(
    HttpApiEndpoint.post("upload", "/v3/keys/upload", { payload: KeyUpload, success: KeyCounts }).annotateMerge(
      documented({
        summary: "Upload keys of the device",
        text:
          "All or none. Errors: M_INVALID_PARAM for keys of another device or another key under a known ID, M_TOO_LARGE, " +
          "M_USER_LIMIT_EXCEEDED.",
        who: "the user, for the device of the session"
      })
    ),
    HttpApiEndpoint.post("query", "/v3/keys/query", {
      payload: Schema.Struct({ device_keys: AnyPayload, timeout: Schema.optionalKey(Integer) }),
      success: FoundKeys
    })
      .annotate(ReadOnly, true)
      .annotateMerge(
        documented({ summary: "The keys of users and their devices", text: "Errors: M_TOO_LARGE.", who: "any user" })
      ),
    HttpApiEndpoint.post("claim", "/v3/keys/claim", {
      payload: Schema.Struct({ one_time_keys: AnyPayload, timeout: Schema.optionalKey(Integer) }),
      success: ClaimedKeys
    }).annotateMerge(
      documented({
        summary: "Claim one-time keys",
        text: "The oldest key of each device and algorithm, else its fallback key. Errors: M_TOO_LARGE.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.post("deviceSigning", "/v3/keys/device_signing/upload", {
      payload: Schema.Struct({ master_key: Keys, self_signing_key: Keys, user_signing_key: Keys, auth: OptionalAuth }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Upload cross-signing keys",
        text:
          "The first keys, and the same keys again, need no authentication; others need user-interactive authentication. " +
          "Errors: M_INVALID_SIGNATURE, M_MISSING_PARAM, M_INVALID_PARAM, M_FORBIDDEN for a key with the name of a device.",
        who: "the user"
      })
    ),
    HttpApiEndpoint.post("signatures", "/v3/keys/signatures/upload", {
      payload: AnyPayload,
      success: RefusedSignatures
    }).annotateMerge(
      documented({
        summary: "Upload signatures of devices and master keys",
        text: "`failures` has the refused signatures. Errors: M_TOO_LARGE.",
        who: "the user"
      })
    ),
    HttpApiEndpoint.get("changes", "/v3/keys/changes", {
      query: { from: Token, to: Token },
      success: ChangedKeys
    }).annotateMerge(
      documented({
        summary: "The users whose keys changed between two tokens",
        text: "Errors: M_INVALID_PARAM for a token that this server did not issue.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.put("sendToDevice", "/v3/sendToDevice/:eventType/:txnId", {
      params: { eventType: EventType, txnId: TransactionId },
      payload: Schema.Struct({ messages: AnyPayload }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Send messages to devices",
        text: "`*` is every device of a user. A repeat of the transaction sends nothing. Errors: M_TOO_LARGE, M_LIMIT_EXCEEDED.",
        who: "any user"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "End-to-end encryption" })) {}
