/**
 * What the OpenAPI document of the client API says better than the schemas alone: how the access token travels, that
 * keys which are not named are ignored rather than refused, and that every error has one shape.
 */
import type { OpenApi } from "effect/http-api"
import { statusOf } from "../MatrixError.ts"

type JsonSchema = { [key: string]: unknown }

const isObject = (value: unknown): value is JsonSchema => typeof value === "object" && value !== null

/** The one shape of every error. */
const errorSchema = {
  type: "object",
  properties: {
    errcode: { type: "string", enum: Object.keys(statusOf) },
    error: { type: "string", description: "What is wrong, for people" },
    retry_after_ms: { type: "integer", minimum: 0, description: "With M_LIMIT_EXCEEDED: when to try again" }
  },
  required: ["errcode", "error"]
}

const errorContent = { "application/json": { schema: { $ref: "#/components/schemas/Error" } } }

/** Schemas made for closed objects say that other keys are refused; here they are ignored or kept. */
const openObjects = (schema: unknown): void => {
  if (!isObject(schema)) return
  if (schema.additionalProperties === false) delete schema.additionalProperties
  for (const member of Object.values(schema)) openObjects(member)
}

const errcodesByStatus = (status: string): string =>
  Object.entries(statusOf)
    .filter(([, of]) => String(of) === status)
    .map(([errcode]) => errcode)
    .join(", ")

const documentErrors = (operation: OpenApi.OpenAPISpecOperation): void => {
  for (const [status, response] of Object.entries(operation.responses)) {
    if (Number(status) < 400) continue
    Object.assign(response, { description: errcodesByStatus(status), content: errorContent })
  }
}

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

/** How the access token travels. */
const withToken = [{ access_token: [] }, { bearer: [] }]

/** Completes the OpenAPI document. The operations that want an access token, and those that take one, are named. */
export const clientDocumentation =
  (operations: { readonly authenticated: ReadonlySet<string>; readonly optionally: ReadonlySet<string> }) =>
  (document: { [key: string]: unknown }): { [key: string]: unknown } => {
    const { components, paths } = document as unknown as OpenApi.OpenAPISpec
    Object.assign(components.securitySchemes, {
      access_token: { type: "apiKey", in: "query", name: "access_token" },
      bearer: { type: "http", scheme: "bearer" }
    })
    for (const path of Object.values(paths)) {
      for (const operation of Object.values(path) as Array<OpenApi.OpenAPISpecOperation>) {
        documentErrors(operation)
        documentBody(operation)
        const name = operation.operationId ?? ""
        if (operations.authenticated.has(name)) operation.security = withToken
        if (operations.optionally.has(name)) operation.security = [{}, ...withToken]
      }
    }
    const schemas = Object.entries(components.schemas).filter(([name]) => !name.startsWith("M_"))
    components.schemas = { Error: errorSchema, ...Object.fromEntries(schemas) }
    openObjects(document)
    return document
  }
