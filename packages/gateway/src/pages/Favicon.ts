/**
 * The icon of the pages. Browsers request `/favicon.ico` for every page, those of the documentation included.
 */
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { icon } from "./Page.ts"

export const faviconPath = "/favicon.ico"

const response = HttpServerResponse.text(icon, {
  contentType: "image/svg+xml",
  headers: { "cache-control": "public, max-age=86400", "x-content-type-options": "nosniff" }
})

/** Serves the icon. */
export const favicon = HttpRouter.use((router) => router.add("GET", faviconPath, Effect.succeed(response)))
