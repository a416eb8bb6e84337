/**
 * Completes the OpenAPI document of every API with what schemas do not express: the server's address, the license, objects
 * with free keys, query parameters that are numbers, the errors of each operation, and an example for every body.
 */
import type { OpenApi } from "effect/http-api"
import { statusOf } from "../MatrixError.ts"
import { isPaginationKey, paginationParameters } from "../Pagination.ts"
import { makeExamples } from "./OpenApiExamples.ts"

type JsonSchema = { [key: string]: unknown }
type Operation = OpenApi.OpenAPISpecOperation

const isObject = (value: unknown): value is JsonSchema => typeof value === "object" && value !== null

/** Keys that a schema does not name are ignored or kept, never refused; where it names none, any key is expected. */
const openObjects = (schema: unknown): void => {
  if (!isObject(schema)) return
  // `Schema.Struct({})` is anything but null to TypeScript.
  if (isObject(schema.not) && schema.not.type === "null") {
    delete schema.not
    schema.type = "object"
  }
  if (schema.additionalProperties === false) delete schema.additionalProperties
  const isFree = schema.type === "object" && schema.properties === undefined && schema.allOf === undefined
  if (isFree && !isObject(schema.additionalProperties)) schema.additionalProperties = true
  for (const [key, member] of Object.entries(schema)) if (key !== "example" && key !== "examples") openObjects(member)
}

/** Query parameters travel as text, but are numbers or one of a few words. */
const typeParameters = (operation: Operation): void => {
  for (const parameter of operation.parameters) {
    const type = parameter.in === "query" ? paginationParameters[parameter.name as "limit"] : undefined
    if (type === undefined) continue
    const { description } = parameter.schema as JsonSchema
    parameter.schema = { ...type, ...(description === undefined ? {} : { description }) } as typeof parameter.schema
  }
}

/** The errors that an operation may have for what it has, whatever it does. */
export interface CommonErrors {
  readonly withToken: ReadonlyArray<string>
  readonly withBody: ReadonlyArray<string>
  readonly withParameters: ReadonlyArray<string>
  readonly withPagination: ReadonlyArray<string>
  /** Endpoints with an optional part in the path. */
  readonly withPath: ReadonlyArray<string>
  readonly always: ReadonlyArray<string>
}

const errcodePattern = /\bM_[A-Z_]+/g

/** A transaction ID, a type or a state key in a path names nothing that must be there before. */
const isResource = (parameter: Operation["parameters"][number]): boolean =>
  parameter.in === "path" && !["txnId", "type", "stateKey", "field"].includes(parameter.name)

type Errors = ReadonlyMap<string, ReadonlySet<string>>

/** The errors, by status, that the schemas of the responses have, and those with another status in the description: `409 M_UNKNOWN`. */
const statedErrors = ({ description = "", responses }: Operation, schemas: JsonSchema): Errors => {
  const errcodesIn = (response: unknown) =>
    [...JSON.stringify(response).matchAll(/#\/components\/schemas\/(M_\w+)/g)].flatMap(([, name = ""]) => {
      const { properties } = schemas[name] as { readonly properties: { readonly errcode: JsonSchema } }
      return properties.errcode.enum as ReadonlyArray<string>
    })
  const failures = Object.entries(responses).filter(([status]) => Number(status) >= 400)
  const errors = new Map(failures.map(([status, response]) => [status, new Set(errcodesIn(response))]))
  for (const [, status = "", errcode = ""] of description.matchAll(/\b([45]\d\d) (M_[A-Z_]+)/g)) {
    errors.set(status, new Set([...(errors.get(status) ?? []), errcode]))
  }
  return errors
}

/** The errors, by status, that the description names, and those that are common to all operations of its kind. */
const describedErrors = (operation: Operation, common: CommonErrors): Errors => {
  const errcodes = new Set([
    ...(operation.description?.match(errcodePattern) ?? []),
    ...((operation.security?.length ?? 0) > 0 ? common.withToken : []),
    ...(operation.requestBody === undefined ? [] : common.withBody),
    ...(operation.parameters.length > 0 ? common.withParameters : []),
    ...(operation.parameters.some(({ name }) => isPaginationKey(name)) ? common.withPagination : []),
    ...(operation.parameters.some((parameter) => isResource(parameter)) ? common.withPath : []),
    ...(operation.operationId?.startsWith("system.") ? [] : common.always)
  ])
  const known = [...errcodes].filter((errcode) => errcode in statusOf)
  const byStatus = Map.groupBy(known, (errcode) => String(statusOf[errcode as keyof typeof statusOf]))
  return new Map([...byStatus].sort().map(([status, errcodes]) => [status, new Set(errcodes)]))
}

const errorReference = { $ref: "#/components/schemas/Error" }

/** Every error has one shape; which of them an operation has is in its text. Returns them. */
const documentErrors = (operation: Operation, byStatus: Errors): ReadonlyArray<string> => {
  const responses = operation.responses as unknown as { [status: string]: unknown }
  for (const status of Object.keys(responses)) if (Number(status) >= 400) delete responses[status]
  for (const [status, errcodes] of byStatus) {
    const [errcode = "M_UNKNOWN"] = errcodes
    const content = { schema: errorReference, example: { errcode, error: "The fault in words" } }
    responses[status] = { description: [...errcodes].join(", "), content: { "application/json": content } }
  }
  return [...byStatus.values()].flatMap((errcodes) => [...errcodes])
}

/** The one shape of every error. */
const errorSchema = (errcodes: ReadonlyArray<string>): JsonSchema => ({
  type: "object",
  properties: {
    errcode: { type: "string", enum: errcodes },
    error: { type: "string", description: "The fault, for people" },
    retry_after_ms: { type: "integer", minimum: 0, description: "With M_LIMIT_EXCEEDED: when to try again" }
  },
  required: ["errcode", "error"]
})

const addExamples = (operation: Operation, exampleOf: (schema: unknown) => unknown): void => {
  const bodies = [operation.requestBody, ...Object.values(operation.responses)]
  for (const body of bodies) {
    const content = body?.content?.["application/json"] as JsonSchema | undefined
    if (content === undefined || "example" in content || "examples" in content) continue
    content.example = exampleOf(content.schema)
  }
}

/** All operations of a document. */
export const operationsOf = ({ paths }: OpenApi.OpenAPISpec): ReadonlyArray<Operation> =>
  Object.values(paths).flatMap((path) => Object.values(path) as ReadonlyArray<Operation>)

/**
 * Completes a document in place. With `common` an operation has these errors and those that its description names, else
 * all that its schemas have.
 */
export const completeDocument = (document: OpenApi.OpenAPISpec, common?: CommonErrors): void => {
  const { components } = document
  Object.assign(document, { servers: [{ url: "/", description: "This server" }] })
  Object.assign(document.info, { license: { name: "Apache License 2.0", identifier: "Apache-2.0" } })
  const operations = operationsOf(document)
  const errcodes = new Set(["M_UNRECOGNIZED"])
  for (const operation of operations) {
    typeParameters(operation)
    const errors =
      common === undefined ? statedErrors(operation, components.schemas) : describedErrors(operation, common)
    for (const errcode of documentErrors(operation, errors)) errcodes.add(errcode)
  }
  const schemas = Object.entries(components.schemas).filter(([name]) => !name.startsWith("M_"))
  components.schemas = {
    Error: errorSchema([...errcodes].sort()),
    ...Object.fromEntries(schemas)
  } as typeof components.schemas
  openObjects(document)
  const exampleOf = makeExamples(components.schemas)
  for (const operation of operations) addExamples(operation, exampleOf)
}
