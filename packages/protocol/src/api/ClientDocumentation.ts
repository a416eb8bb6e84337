/**
 * Completes the OpenAPI document of a client API with what schemas do not express: the access token, optional bodies, and
 * the additions of `completeDocument`.
 */
import type { HttpApi, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication } from "./Authentication.ts"
import { type CommonErrors, completeDocument, operationsOf } from "./OpenApiDocument.ts"

type JsonSchema = { [key: string]: unknown }

/** A body that may be absent is documented with the default `{}`, or as one of two, the other null. */
const documentBody = (operation: OpenApi.OpenAPISpecOperation): void => {
  const content = operation.requestBody?.content["application/json"]
  const schema = content?.schema as JsonSchema | undefined
  if (content === undefined || schema === undefined) return
  const choices = schema.anyOf as ReadonlyArray<JsonSchema> | undefined
  const present = choices?.filter((choice) => choice.type !== "null")
  if (present?.length === 1) content.schema = present[0] as typeof content.schema
  if (present?.length === 1 || "default" in schema) Object.assign(operation.requestBody ?? {}, { required: false })
}

/** `group.endpoint` of what a middleware guards. */
const operationsBehind = (
  middleware: typeof Authentication | typeof OptionalAuthentication,
  api: HttpApi.Top
): ReadonlySet<string> => {
  const out = new Set<string>()
  for (const group of Object.values(api.groups)) {
    for (const endpoint of Object.values(group.endpoints)) {
      if (endpoint.middlewares.has(middleware)) out.add(`${group.identifier}.${endpoint.identifier}`)
    }
  }
  return out
}

/** The forms in which a request carries the access token. */
const withToken = [{ access_token: [] }, { bearer: [] }]
const securitySchemes = {
  access_token: { type: "apiKey", in: "query", name: "access_token" },
  bearer: { type: "http", scheme: "bearer" }
}

/** Completes the OpenAPI document of an API, for its `transform`. */
export const clientDocumentation =
  (api: HttpApi.Top, common?: CommonErrors) =>
  (document: { [key: string]: unknown }): { [key: string]: unknown } => {
    const specification = document as unknown as OpenApi.OpenAPISpec
    const authenticated = operationsBehind(Authentication, api)
    const optionally = operationsBehind(OptionalAuthentication, api)
    Object.assign(specification.components.securitySchemes, securitySchemes)
    for (const operation of operationsOf(specification)) {
      documentBody(operation)
      const name = operation.operationId ?? ""
      if (authenticated.has(name)) operation.security = withToken
      if (optionally.has(name)) operation.security = [{}, ...withToken]
    }
    completeDocument(specification, common)
    return document
  }
