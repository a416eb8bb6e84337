// biome-ignore-all lint/suspicious/noExplicitAny: documents and answers of any shape
/**
 * The operations in the specification's OpenAPI documents: which operation a request belongs to, and whether an answer conforms to it.
 *
 * The documents are not in this repository: {@link readSpecification} reads the `data` folder of `matrix-org/matrix-spec`.
 */
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import { parse } from "yaml"

type Json = { readonly [name: string]: any }

/** The folders of the OpenAPI documents. */
export const apis = ["client-server", "server-server", "identity", "application-service"] as const

export type Api = (typeof apis)[number]

interface Operation {
  readonly api: Api
  readonly method: string
  /** With parameters in braces. */
  readonly path: string
  readonly pattern: RegExp
  readonly responses: ReadonlyMap<string, DocumentedResponse>
}

interface DocumentedResponse {
  /** Of a JSON body. */
  readonly schema: Json | undefined
  /** Whether every documented body of the answer is JSON. */
  readonly onlyJson: boolean
  /** The documentation of the answer as JSON text, in which error codes are searched. */
  readonly text: string
}

export interface Specification {
  /** `POST /_matrix/client/v3/createRoom`, or undefined if the specification has no such operation. */
  readonly nameOf: (method: string, path: string) => string | undefined
  /** The names of all operations. */
  readonly names: ReadonlyArray<string>
  /** The violations of the specification in an answer; nothing for operations that it does not have. */
  readonly check: (answer: {
    readonly method: string
    readonly path: string
    readonly status: number
    /** Undefined if the answer is no JSON. */
    readonly body: unknown
    /** The content type. Without it only bodies are checked. */
    readonly type?: string | undefined
  }) => ReadonlyArray<string>
}

type Errors = { readonly [status: number]: ReadonlyArray<string> }

/** Errors that any operation of the client API may end with ("Common error codes" and "Other error codes"), by status. */
const clientErrors: Errors = {
  400: ["M_BAD_JSON", "M_NOT_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM", "M_UNKNOWN"],
  401: ["M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED"],
  403: ["M_FORBIDDEN", "M_USER_SUSPENDED"],
  404: ["M_UNRECOGNIZED", "M_NOT_FOUND"],
  405: ["M_UNRECOGNIZED"],
  413: ["M_TOO_LARGE"],
  429: ["M_LIMIT_EXCEEDED"]
}

const commonErrors: { readonly [api in Api]: Errors } = {
  "client-server": clientErrors,
  "application-service": clientErrors,
  "server-server": {
    ...clientErrors,
    401: ["M_UNAUTHORIZED", "M_FORBIDDEN", "M_MISSING_TOKEN"],
    502: ["M_UNKNOWN"]
  },
  identity: {
    ...clientErrors,
    400: [
      ...(clientErrors[400] ?? []),
      "M_MISSING_PARAMS",
      "M_INVALID_EMAIL",
      "M_INVALID_ADDRESS",
      "M_EMAIL_SEND_ERROR",
      "M_SEND_ERROR",
      "M_THREEPID_IN_USE",
      "M_SESSION_NOT_VALIDATED",
      "M_NO_VALID_SESSION",
      "M_SESSION_EXPIRED"
    ],
    401: ["M_UNAUTHORIZED", "M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"],
    403: ["M_FORBIDDEN", "M_TERMS_NOT_SIGNED"],
    404: ["M_UNRECOGNIZED", "M_NOT_FOUND", "M_NO_VALID_SESSION"]
  }
}

const isAnyObject = (schema: any): boolean => schema?.type === "object" && Object.keys(schema).length === 1

/** `oneOf` becomes `anyOf` if one of the alternatives is any object, as in `GET state/{eventType}`: an event matches both. */
const alternatives = (key: string, value: any): string =>
  key === "oneOf" && Array.isArray(value) && value.some(isAnyObject) ? "anyOf" : key

/** Reads documents and resolves their references. A recursive reference becomes `{}`. */
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

const nameOfOperation = ({ method, path }: Operation) => `${method} ${path}`

const patternOf = (template: string): RegExp =>
  new RegExp(
    `^${template
      .split(/\{[^}]+\}/)
      .map((part) => part.replace(/[.*+?^$()|[\]\\]/g, "\\$&"))
      .join("[^/]*")}/?$`
  )

const methods = ["get", "put", "post", "delete", "head", "patch"]

const isJson = (type: string) => /^application\/(.*\+)?json\b/.test(type)

const readOperations = async (data: string, api: Api): Promise<ReadonlyArray<Operation>> => {
  const directory = path.join(data, "api", api)
  const { load, resolve } = makeReader()
  const operations: Array<Operation> = []
  if (!existsSync(directory)) return operations
  for (const name of await fs.readdir(directory)) {
    const file = path.join(directory, name)
    if (!name.endsWith(".yaml")) continue
    const document = await load(file)
    const base: string = document.servers?.[0]?.variables?.basePath?.default ?? ""
    for (const [template, item] of Object.entries<Json>(document.paths ?? {})) {
      for (const method of methods.filter((method) => item[method] !== undefined)) {
        const responses = new Map<string, DocumentedResponse>()
        for (const [status, given] of Object.entries<Json>(item[method].responses)) {
          const raw = JSON.stringify(given)
          const response = await resolve(given, file, [])
          const types = Object.keys(response.content ?? {})
          const schema = response.content?.["application/json"]?.schema
          responses.set(status, { schema, onlyJson: types.length > 0 && types.every(isJson), text: raw })
        }
        const whole = `${base}${template}`.replace(/\/$/, "")
        operations.push({ api, method: method.toUpperCase(), path: whole, pattern: patternOf(whole), responses })
      }
    }
  }
  return operations
}

/** Older spellings of the current version. */
const currentPath = (path: string) => path.replace(/^\/_matrix\/client\/(r0|api\/v1|unstable)\//, "/_matrix/client/v3/")

/** @param directory The folder `data` of the specification. An API whose folder is not there has no operations. */
export const readSpecification = async (directory: string): Promise<Specification> => {
  const found = await Promise.all(apis.map((api) => readOperations(directory, api)))
  // A path without parameters goes before one that has them.
  const operations = found.flat().sort((a, b) => a.path.split("{").length - b.path.split("{").length)
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false })
  const validators = new Map<Json, ValidateFunction>()
  const validatorOf = (schema: Json) => {
    const found = validators.get(schema) ?? ajv.compile(schema)
    validators.set(schema, found)
    return found
  }
  const find = (method: string, path: string) =>
    operations.find((operation) => operation.method === method && operation.pattern.test(currentPath(path)))

  const checkError = ({ api, responses }: Operation, status: number, body: any): ReadonlyArray<string> => {
    const code = body?.errcode
    if (status === 401 && Array.isArray(body?.flows)) return []
    if (typeof code !== "string" || typeof body.error !== "string") return [`${status} without errcode and error`]
    if (commonErrors[api][status]?.includes(code)) return []
    const documented = responses.get(String(status)) ?? responses.get(`${status}`.replace(/..$/, "XX"))
    if (documented === undefined) return [`${status} ${code}: the status is not documented`]
    return documented.text.includes(code) ? [] : [`${status} ${code}: the code is not documented for this status`]
  }

  const checkBody = (schema: Json, body: unknown): ReadonlyArray<string> => {
    const validate = validatorOf(schema)
    if (validate(body)) return []
    const positions = (validate.errors ?? []).map(
      ({ instancePath, message, params }) =>
        `${instancePath.replace(/\/[^/]*[!$@#:%~][^/]*/g, "/*").replace(/\/\d+(?=\/|$)/g, "/*")} ${message} ${"allowedValues" in params ? JSON.stringify(params.allowedValues) : ""}`
    )
    return Array.from(new Set(positions.map((position) => position.trim())))
  }

  return {
    nameOf: (method, path) => {
      const operation = find(method, path)
      return operation === undefined ? undefined : nameOfOperation(operation)
    },
    names: operations.map(nameOfOperation),
    check: ({ body, method, path, status, type }) => {
      const operation = find(method, path)
      if (operation === undefined || status >= 500) return []
      const documented = operation.responses.get(String(status))
      if (status < 400 && documented === undefined) return ["the status is not documented"]
      const problems = status >= 400 ? [...checkError(operation, status, body)] : []
      // Its schema may be that of another answer with the same status, such as the stages of user-interactive authentication.
      if (status >= 400 && problems.length === 0 && typeof (body as Json)?.errcode === "string") return []
      if (type !== undefined && documented?.onlyJson === true && !isJson(type)) problems.push(`is ${type}, not JSON`)
      if (documented?.schema === undefined || body === undefined) return problems
      return [...problems, ...checkBody(documented.schema, body)]
    }
  }
}
