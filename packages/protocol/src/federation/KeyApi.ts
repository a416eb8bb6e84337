/**
 * The endpoints by which servers find each other's keys: the server's own at the draft's path and at today's, and, as a
 * notary, those of other servers. Requests need no signature: the answers are signed.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AnyPayload, body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { ServerName } from "../Identifiers.ts"
import { Integer, type JsonObject } from "../Json.ts"
import { ServerKeys } from "./ServerKeys.ts"

/** The path of the server's keys in the draft. */
export const keyPath = "/matrix/key/v1"

/** The path of the server's keys in today's specification. */
export const todaysKeyPath = "/_matrix/key/v2/server"

/** Keys of other servers, as a notary returns them. */
export const keyQueryPath = "/_matrix/key/v2/query"

/** The most servers that one query may be about. */
const maxQueriedServers = 1_000

const Criteria = Schema.Struct({
  minimum_valid_until_ts: Schema.optionalKey(
    Integer.annotate({ description: "Keys should be valid until then; now, if absent" })
  )
})

/** The wanted keys: server names to key IDs to criteria. Without key IDs, all keys of the server are wanted. */
export const KeyQuery = Schema.Struct({
  server_keys: Schema.Record(Schema.String, Schema.Record(Schema.String, Criteria)).check(
    Schema.makeFilter(
      (servers: object) =>
        Object.keys(servers).length <= maxQueriedServers || `Expected at most ${maxQueriedServers} servers`
    )
  )
}).annotate({ identifier: "KeyQuery" })
export type KeyQuery = typeof KeyQuery.Type

const DescribedAnswer = Schema.Struct({ server_keys: Schema.Array(ServerKeys) }).annotate({
  identifier: "KeyQueryAnswer",
  description: "Key objects, each signed by its server and by the notary. A server of which nothing is known is absent"
})

/** The answer of a notary. */
export interface KeyQueryAnswer {
  readonly server_keys: ReadonlyArray<JsonObject>
}

const KeyQueryAnswer = body(DescribedAnswer as never) as Schema.Codec<KeyQueryAnswer>
const ownKeys = body(ServerKeys as never) as Schema.Codec<ServerKeys>
const timestamp = Schema.String.check(Schema.isPattern(/^-?[0-9]{1,16}$/))

export class KeyGroup extends HttpApiGroup.make("keys")
  .add(
    HttpApiEndpoint.get("keys", keyPath, { success: ownKeys }).annotateMerge(
      documented({ summary: "The keys of this server, signed by them", who: "anyone" })
    ),
    HttpApiEndpoint.get("serverKeys", todaysKeyPath, { success: ownKeys }).annotateMerge(
      documented({ summary: "The same at the path of today's specification", who: "anyone" })
    ),
    HttpApiEndpoint.get("serverKey", `${todaysKeyPath}/:keyId`, {
      params: { keyId: Schema.String },
      success: ownKeys
    }).annotateMerge(documented({ summary: "The same; the key ID has no effect", who: "anyone" })),
    HttpApiEndpoint.get("queryServer", `${keyQueryPath}/:serverName`, {
      params: { serverName: ServerName },
      query: { minimum_valid_until_ts: Schema.optional(timestamp) },
      success: KeyQueryAnswer
    }).annotateMerge(
      documented({
        summary: "The keys of another server, as this one knows them",
        text: "Errors: M_LIMIT_EXCEEDED.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("queryServerKey", `${keyQueryPath}/:serverName/:keyId`, {
      params: { serverName: ServerName, keyId: Schema.String },
      query: { minimum_valid_until_ts: Schema.optional(timestamp) },
      success: KeyQueryAnswer
    }).annotateMerge(
      documented({
        summary: "The same for one key, for servers before version 1.1 of the specification",
        text: "Errors: M_LIMIT_EXCEEDED.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.post("queryServers", keyQueryPath, { payload: AnyPayload, success: KeyQueryAnswer }).annotateMerge(
      documented({
        summary: "The keys of other servers, as this one knows them",
        text: "The body is a `KeyQuery`. Errors: M_BAD_JSON, M_LIMIT_EXCEEDED.",
        who: "anyone"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Keys", description: "By what servers are known." })) {}
