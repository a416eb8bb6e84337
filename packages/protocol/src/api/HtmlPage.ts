/**
 * The HTML body of an endpoint that answers with a page.
 */
import { Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"

/** A page, in UTF-8. */
export const HtmlPage = Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/html; charset=utf-8" }))
