/**
 * Answers whose body is JSON already, from a store or from an encoder of its own.
 */
import { HttpServerResponse } from "effect/http"

const options = { contentType: "application/json" } as const

/** An answer with this JSON text. */
export const jsonText = (text: string): HttpServerResponse.HttpServerResponse => HttpServerResponse.text(text, options)

/** An answer with this JSON text in UTF-8. */
export const jsonBytes = (bytes: Uint8Array): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.uint8Array(bytes, options)
