/**
 * How a clique of identity servers that trust each other keep the same associations. Each server pushes what it signed
 * to every other one. For an address the record with the highest `ts` holds; of two with the same `ts` the one whose
 * origin comes later in the order of code points, so every server comes to the same, whatever the order of arrival.
 *
 * Source: "Identity" of the draft ("trusted clique of servers which replicate content").
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { ServerName } from "../Identifiers.ts"
import { Integer } from "../Json.ts"
import { AssociationRecord } from "./Association.ts"

/** The most records of one push. */
export const maxRecordsPerPush = 100

/** How far the clocks of two servers of a clique may be apart, in ms; older pushes and later records are refused. */
export const maxClockDifference = 5 * 60_000

/** Records that `origin` signed, signed as a whole by it for `destination`. */
export const ReplicationPush = Schema.Struct({
  origin: ServerName,
  destination: ServerName,
  ts: Integer.annotate({ description: "When the push was sent, in milliseconds since 1970" }),
  records: Schema.Array(AssociationRecord).check(Schema.isMaxLength(maxRecordsPerPush)),
  signatures: Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.String))
}).annotate({ identifier: "ReplicationPush" })
export type ReplicationPush = typeof ReplicationPush.Type

/** The records that were not accepted, by their index in the push. Records that were known already count as accepted. */
export const ReplicationAnswer = body(
  Schema.Struct({
    refused: Schema.Array(Schema.Struct({ index: Schema.Int, error: Schema.String }))
  }).annotate({ identifier: "ReplicationAnswer" })
)
export type ReplicationAnswer = typeof ReplicationAnswer.Type

export class ReplicationApi extends HttpApiGroup.make("replication")
  .add(
    HttpApiEndpoint.post("push", "/replicate/v1/push", {
      payload: body(ReplicationPush),
      success: ReplicationAnswer
    }).annotateMerge(
      documented({
        summary: "Push associations to another server of the clique",
        text: "Nothing of the body is looked at before its signature was checked. Errors: M_FORBIDDEN, M_BAD_JSON.",
        who: "the configured peers"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Replication", description: "Among a clique of identity servers." })) {}
