/**
 * The keys that a server publishes at `/matrix/key/v1`: those with which it signs, those with which it signed until some
 * time, and until when the object is valid. The object is signed by every current key in it.
 *
 * Keys are 32 bytes in unpadded base64. Earlier servers wrote a key as that text alone, which is read as well.
 *
 * Source: "Security" of the draft, "Publishing Keys" of the server-server specification.
 */
import { Schema } from "effect"
import { ServerName } from "../Identifiers.ts"
import { Integer } from "../Json.ts"

/** The most keys, current and old, that are read of one server. */
export const maxKeys = 100

const Bytes = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9+/]{43}=?$/))
const Key = Schema.Union([Bytes, Schema.Struct({ key: Bytes })])
const few = Schema.makeFilter(
  (keys: object) => Object.keys(keys).length <= maxKeys || `Expected at most ${maxKeys} keys`
)

/** The key object, without `signatures`, which verification reads separately. Times in ms since 1970. */
export const ServerKeys = Schema.Struct({
  server_name: ServerName,
  verify_keys: Schema.Record(Schema.String, Key).check(few),
  old_verify_keys: Schema.optionalKey(
    Schema.Record(Schema.String, Schema.Struct({ key: Bytes, expired_ts: Integer })).check(few)
  ),
  valid_until_ts: Integer.annotate({ description: "Ask again after this" })
}).annotate({ identifier: "ServerKeys" })
export type ServerKeys = typeof ServerKeys.Type

/** The text of a key, in either of its forms. */
export const keyText = (key: string | { readonly key: string }): string => (typeof key === "string" ? key : key.key)
