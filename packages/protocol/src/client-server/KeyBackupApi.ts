/**
 * Backups of room keys.
 *
 * Source: "Server-side key backups" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { AnyPayload, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { RoomId } from "../Identifiers.ts"

const Version = boundedText(255)
const SessionId = boundedText(255)
const Algorithm = boundedText(255)

/** Opaque to the server: an object by today's specification, text by earlier ones. */
const Opaque = Schema.Union([AnyPayload, Schema.String])

const Description = Schema.Struct({ algorithm: Algorithm, auth_data: Opaque })

const Backup = body(
  Schema.Struct({
    version: Schema.String,
    algorithm: Schema.String,
    auth_data: Opaque,
    count: Schema.Int,
    etag: Schema.String
  }).annotate({ identifier: "KeyBackup" })
)

const Count = body(Schema.Struct({ count: Schema.Int, etag: Schema.String }).annotate({ identifier: "KeyBackupCount" }))

const KeyOfSession = Schema.Struct({
  first_message_index: Schema.Int,
  forwarded_count: Schema.Int,
  is_verified: Schema.Boolean,
  session_data: Opaque
}).annotate({ identifier: "KeyBackupSession" })
const KeysOfRoom = Schema.Struct({ sessions: Schema.Record(Schema.String, KeyOfSession) }).annotate({
  identifier: "KeyBackupRoom"
})
const Keys = Schema.Struct({ rooms: Schema.Record(Schema.String, KeysOfRoom) }).annotate({
  identifier: "KeyBackupKeys"
})

const own = "the user, for themselves"
const query = { version: Version }
const room = { roomId: RoomId }
const session = { ...room, sessionId: SessionId }

const changing =
  "A key that is there stays unless the new one is better. Errors: M_WRONG_ROOM_KEYS_VERSION, M_NOT_FOUND, M_TOO_LARGE, " +
  "M_USER_LIMIT_EXCEEDED."

export class KeyBackupApi extends HttpApiGroup.make("clientServer.keyBackup")
  .add(
    HttpApiEndpoint.post("create", "/v3/room_keys/version", {
      payload: Description,
      success: body(Schema.Struct({ version: Schema.String }))
    }).annotateMerge(
      documented({
        summary: "Make a new version of the key backup",
        text: "The newest 20 versions are kept. Errors: M_TOO_LARGE.",
        who: own
      })
    ),
    HttpApiEndpoint.get("current", "/v3/room_keys/version", { success: Backup }).annotateMerge(
      documented({ summary: "The current version of the key backup", text: "Errors: M_NOT_FOUND.", who: own })
    ),
    HttpApiEndpoint.get("version", "/v3/room_keys/version/:version", {
      params: { version: Version },
      success: Backup
    }).annotateMerge(documented({ summary: "A version of the key backup", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.put("update", "/v3/room_keys/version/:version", {
      params: { version: Version },
      payload: Schema.Struct({ ...Description.fields, version: Schema.optionalKey(Version) }),
      success: Done
    }).annotateMerge(
      documented({
        summary: "Change the auth_data of a version",
        text: "Errors: M_NOT_FOUND, M_INVALID_PARAM.",
        who: own
      })
    ),
    HttpApiEndpoint.delete("remove", "/v3/room_keys/version/:version", {
      params: { version: Version },
      success: Done
    }).annotateMerge(documented({ summary: "Delete a version with its keys", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.put("putAll", "/v3/room_keys/keys", {
      query,
      payload: Schema.Struct({ rooms: AnyPayload }),
      success: Count
    }).annotateMerge(documented({ summary: "Back up keys", text: changing, who: own })),
    HttpApiEndpoint.put("putRoom", "/v3/room_keys/keys/:roomId", {
      params: room,
      query,
      payload: Schema.Struct({ sessions: AnyPayload }),
      success: Count
    }).annotateMerge(documented({ summary: "Back up keys of a room", text: changing, who: own })),
    HttpApiEndpoint.put("putSession", "/v3/room_keys/keys/:roomId/:sessionId", {
      params: session,
      query,
      payload: AnyPayload,
      success: Count
    }).annotateMerge(documented({ summary: "Back up a key", text: changing, who: own })),
    HttpApiEndpoint.get("all", "/v3/room_keys/keys", { query, success: body(Keys) }).annotateMerge(
      documented({ summary: "The keys of the backup", text: "Errors: M_NOT_FOUND.", who: own })
    ),
    HttpApiEndpoint.get("room", "/v3/room_keys/keys/:roomId", {
      params: room,
      query,
      success: body(KeysOfRoom)
    }).annotateMerge(documented({ summary: "The keys of a room", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.get("session", "/v3/room_keys/keys/:roomId/:sessionId", {
      params: session,
      query,
      success: body(KeyOfSession)
    }).annotateMerge(documented({ summary: "A key", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.delete("removeAll", "/v3/room_keys/keys", { query, success: Count }).annotateMerge(
      documented({ summary: "Delete the keys of the backup", text: "Errors: M_NOT_FOUND.", who: own })
    ),
    HttpApiEndpoint.delete("removeRoom", "/v3/room_keys/keys/:roomId", {
      params: room,
      query,
      success: Count
    }).annotateMerge(documented({ summary: "Delete the keys of a room", text: "Errors: M_NOT_FOUND.", who: own })),
    HttpApiEndpoint.delete("removeSession", "/v3/room_keys/keys/:roomId/:sessionId", {
      params: session,
      query,
      success: Count
    }).annotateMerge(documented({ summary: "Delete a key", text: "Errors: M_NOT_FOUND.", who: own }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Key backup" })) {}
