// biome-ignore-all lint/suspicious/noExplicitAny: documents and answers of any shape
/**
 * The client-server API as the specification's OpenAPI documents describe it: which operation a request is, and whether an
 * answer fits it.
 *
 * The documents are no part of this repository: {@link readSpecification} takes the `data` folder of `matrix-org/matrix-spec`.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import { parse } from "yaml"

type Json = { readonly [name: string]: any }

interface Operation {
  readonly method: string
  /** With parameters in braces. */
  readonly path: string
  readonly pattern: RegExp
  /** By status: the schema of a JSON body, and all that is written about the answer. */
  readonly responses: ReadonlyMap<string, { readonly schema: Json | undefined; readonly text: string }>
}

export interface Specification {
  /** `POST /_matrix/client/v3/createRoom`, or undefined where the specification has no such operation. */
  readonly nameOf: (method: string, path: string) => string | undefined
  /** What does not fit the specification in an answer; nothing for operations that it does not have. */
  readonly check: (answer: {
    readonly method: string
    readonly path: string
    readonly status: number
    readonly body: unknown
  }) => ReadonlyArray<string>
}

/** Errors that any operation may end with ("Common error codes" and "Other error codes"), by status. */
const commonErrors: { readonly [status: number]: ReadonlyArray<string> } = {
  400: ["M_BAD_JSON", "M_NOT_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM", "M_UNKNOWN"],
  401: ["M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED"],
  403: ["M_FORBIDDEN", "M_USER_SUSPENDED"],
  404: ["M_UNRECOGNIZED", "M_NOT_FOUND"],
  405: ["M_UNRECOGNIZED"],
  413: ["M_TOO_LARGE"],
  429: ["M_LIMIT_EXCEEDED"]
}

const isAnyObject = (schema: any): boolean => schema?.type === "object" && Object.keys(schema).length === 1

/** Where one of the alternatives is any object (`GET state/{eventType}`), an event is of both. */
const alternatives = (key: string, value: any): string =>
  key === "oneOf" && Array.isArray(value) && value.some(isAnyObject) ? "anyOf" : key

/** Reads documents and puts what they refer to in the place of each reference. A schema that contains itself ends in `{}`. */
const makeReader = () => {
  const documents = new Map<string, any>()
  const load = async (file: string): Promise<any> => {
    if (!documents.has(file)) documents.set(file, parse(await fs.readFile(file, "utf8")))
    return documents.get(file)
  }
  const resolve = async (value: any, file: string, parents: ReadonlyArray<string>): Promise<any> => {
    if (Array.isArray(value)) return Promise.all(value.map((item) => resolve(item, file, parents)))
    if (typeof value !== "object" || value === null) return value
    if (typeof value.$ref === "string") {
      const [name, pointer = ""] = value.$ref.split("#")
      const target = name === "" ? file : path.resolve(path.dirname(file), name)
      const id = `${target}#${pointer}`
      if (parents.includes(id)) return {}
      const found = pointer
        .split("/")
        .slice(1)
        .reduce((node: any, key: string) => node[key], await load(target))
      return resolve(found, target, [...parents, id])
    }
    const entries = Object.entries(value).filter(([key]) => key !== "example" && key !== "examples")
    return Object.fromEntries(
      await Promise.all(
        entries.map(async ([key, item]) => [alternatives(key, item), await resolve(item, file, parents)] as const)
      )
    )
  }
  return { load, resolve }
}

const patternOf = (template: string): RegExp =>
  new RegExp(
    `^${template
      .split(/\{[^}]+\}/)
      .map((part) => part.replace(/[.*+?^$()|[\]\\]/g, "\\$&"))
      .join("[^/]*")}/?$`
  )

const methods = ["get", "put", "post", "delete", "head", "patch"]

const readOperations = async (directory: string): Promise<ReadonlyArray<Operation>> => {
  const { load, resolve } = makeReader()
  const operations: Array<Operation> = []
  for (const name of await fs.readdir(directory)) {
    const file = path.join(directory, name)
    if (!name.endsWith(".yaml")) continue
    const document = await load(file)
    const base: string = document.servers?.[0]?.variables?.basePath?.default ?? ""
    for (const [template, item] of Object.entries<Json>(document.paths ?? {})) {
      for (const method of methods.filter((method) => item[method] !== undefined)) {
        const responses = new Map<string, { schema: Json | undefined; text: string }>()
        for (const [status, given] of Object.entries<Json>(item[method].responses)) {
          const raw = JSON.stringify(given)
          const response = await resolve(given, file, [])
          responses.set(status, { schema: response.content?.["application/json"]?.schema, text: raw })
        }
        const whole = `${base}${template}`.replace(/\/$/, "")
        operations.push({ method: method.toUpperCase(), path: whole, pattern: patternOf(whole), responses })
      }
    }
  }
  // A path without parameters goes before one that has them.
  return operations.sort((a, b) => a.path.split("{").length - b.path.split("{").length)
}

/** Older spellings of the current version. */
const currentPath = (path: string) => path.replace(/^\/_matrix\/client\/(r0|api\/v1|unstable)\//, "/_matrix/client/v3/")

/** @param directory The folder `data` of the specification. */
export const readSpecification = async (directory: string): Promise<Specification> => {
  const operations = await readOperations(path.join(directory, "api", "client-server"))
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false })
  const validators = new Map<Json, ValidateFunction>()
  const validatorOf = (schema: Json) => {
    const found = validators.get(schema) ?? ajv.compile(schema)
    validators.set(schema, found)
    return found
  }
  const find = (method: string, path: string) =>
    operations.find((operation) => operation.method === method && operation.pattern.test(currentPath(path)))

  const checkError = ({ responses }: Operation, status: number, body: any): ReadonlyArray<string> => {
    const code = body?.errcode
    if (status === 401 && code === undefined && Array.isArray(body?.flows)) return []
    if (typeof code !== "string" || typeof body.error !== "string") return [`${status} without errcode and error`]
    if (commonErrors[status]?.includes(code)) return []
    const documented = responses.get(String(status)) ?? responses.get(`${status}`.replace(/..$/, "XX"))
    if (documented === undefined) return [`${status} ${code}: the status is not documented`]
    return documented.text.includes(code) ? [] : [`${status} ${code}: the code is not documented for this status`]
  }

  return {
    nameOf: (method, path) => {
      const operation = find(method, path)
      return operation === undefined ? undefined : `${operation.method} ${operation.path}`
    },
    check: ({ body, method, path, status }) => {
      const operation = find(method, path)
      if (operation === undefined || status >= 500) return []
      const problems = status >= 400 ? [...checkError(operation, status, body)] : []
      const schema = operation.responses.get(String(status))?.schema
      if (schema === undefined || body === undefined) return problems
      const validate = validatorOf(schema)
      if (validate(body)) return problems
      const places = (validate.errors ?? []).map(
        ({ instancePath, message, params }) =>
          `${instancePath.replace(/\/[^/]*[!$@#:%~][^/]*/g, "/*").replace(/\/\d+(?=\/|$)/g, "/*")} ${message} ${"allowedValues" in params ? JSON.stringify(params.allowedValues) : ""}`
      )
      return [...problems, ...new Set(places.map((place) => place.trim()))]
    }
  }
}
