/**
 * The rendezvous of two devices for a sign-in by QR code.
 *
 * Source: MSC4388 (the data in JSON), and MSC4108 in its form of 2024 (the data as text, changes by ETag).
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Bytes, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"

const path = "/unstable/io.element.msc4388/rendezvous"
const textPath = "/unstable/org.matrix.msc4108/rendezvous"
const params = { id: boundedText(255) }
const knows = "whoever knows the ID"
const off = "Errors: M_UNRECOGNIZED where there is no OAuth 2.0 API."
const Written = body(
  Schema.Struct({
    id: Schema.optionalKey(Schema.String),
    sequence_token: Schema.String,
    expires_in_ms: Schema.optionalKey(Schema.Int)
  })
)

const Session = body(Schema.Struct({ data: Schema.String, sequence_token: Schema.String, expires_in_ms: Schema.Int }))

export class RendezvousApi extends HttpApiGroup.make("clientServer.rendezvous")
  .add(
    HttpApiEndpoint.get("available", path, {
      success: body(Schema.Struct({ create_available: Schema.Boolean }))
    }).annotateMerge(documented({ summary: "Are rendezvous sessions supported?", text: off, who: "anyone" })),
    HttpApiEndpoint.post("create", path, {
      payload: Schema.Struct({ data: Schema.String }).annotate({ identifier: "RendezvousData" }),
      success: Written
    }).annotateMerge(
      documented({ summary: "Create a rendezvous session", text: `${off} M_TOO_LARGE.`, who: "anyone" })
    ),
    HttpApiEndpoint.get("get", `${path}/:id`, { params, success: Session }).annotateMerge(
      documented({ summary: "The text of the session", text: "Errors: M_NOT_FOUND.", who: knows })
    ),
    HttpApiEndpoint.put("put", `${path}/:id`, {
      params,
      payload: Schema.Struct({ sequence_token: Schema.String, data: Schema.String }).annotate({
        identifier: "RendezvousUpdate"
      }),
      success: Written
    }).annotateMerge(
      documented({
        summary: "Replace the text of the session",
        text: "Errors: M_NOT_FOUND, M_TOO_LARGE, 409 M_CONCURRENT_WRITE if the text has changed since `sequence_token`.",
        who: knows
      })
    ),
    HttpApiEndpoint.delete("remove", `${path}/:id`, { params, success: Done }).annotateMerge(
      documented({ summary: "Delete a session", text: "Errors: M_NOT_FOUND.", who: knows })
    ),
    HttpApiEndpoint.post("createText", textPath, {
      success: body(Schema.Struct({ url: Schema.String }))
    }).annotateMerge(
      documented({ summary: "Create a rendezvous session, form of 2024", text: off, who: "anyone", binary: true })
    ),
    HttpApiEndpoint.get("getText", `${textPath}/:id`, { params, success: Bytes }).annotateMerge(
      documented({ summary: "The text of the session, form of 2024", who: knows })
    ),
    HttpApiEndpoint.put("putText", `${textPath}/:id`, { params, success: Done }).annotateMerge(
      documented({ summary: "Replace the text of the session, form of 2024", who: knows, binary: true })
    ),
    HttpApiEndpoint.delete("removeText", `${textPath}/:id`, { params, success: Done }).annotateMerge(
      documented({ summary: "Delete a session, form of 2024", who: knows })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Sign-in by QR code" })) {}
