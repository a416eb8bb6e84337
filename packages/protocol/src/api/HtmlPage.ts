/**
 * The HTML body of an endpoint that answers with a page.
 */
import { Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"

export const HtmlPage = Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/html; charset=utf-8" }))
