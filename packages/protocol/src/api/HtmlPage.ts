/**
 * A page for people, as an endpoint answers with it.
 */
import { Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"

export const HtmlPage = Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/html; charset=utf-8" }))
