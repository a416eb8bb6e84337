/**
 * The keys that a server publishes at `/matrix/key/v1`: those with which it signs, those with which it signed until some
 * time, and until when the object is valid. The object is signed by every current key in it.
 *
 * Keys are 32 bytes in unpadded base64. Earlier servers wrote a key as that text alone, which is read as well. Keys of algorithms that
 * this server does not know may stand beside them.
 *
 * Source: "Security" of the draft, "Publishing Keys" of the server-server specification.
 */
import { Schema } from "effect"
import { ServerName } from "../Identifiers.ts"
import { Integer } from "../Json.ts"

/** The most current keys, and the most old ones, that are read of one server. */
export const maxKeys = 100

const Bytes = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9+/]{43}=?$/))

/** A key with which a server signs. */
export const VerifyKey = Schema.Union([Bytes, Schema.Struct({ key: Bytes })])

/** A key with which a server has signed until `expired_ts`. */
export const OldVerifyKey = Schema.Struct({ key: Bytes, expired_ts: Integer })

const head = { server_name: ServerName, valid_until_ts: Integer.annotate({ description: "Ask again after this" }) }

/** The key object of this server, without `signatures`. Times in ms since 1970. */
export const ServerKeys = Schema.Struct({
  ...head,
  verify_keys: Schema.Record(Schema.String, VerifyKey),
  old_verify_keys: Schema.optionalKey(Schema.Record(Schema.String, OldVerifyKey))
}).annotate({ identifier: "ServerKeys" })
export type ServerKeys = typeof ServerKeys.Type

/** The key object of another server. Each key is read for itself: one that cannot be read does not invalidate the others. */
export const ReceivedServerKeys = Schema.Struct({
  ...head,
  verify_keys: Schema.Record(Schema.String, Schema.Unknown),
  old_verify_keys: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
})

/** The text of a key, in either of its forms. */
export const keyText = (key: typeof VerifyKey.Type): string => (typeof key === "string" ? key : key.key)
