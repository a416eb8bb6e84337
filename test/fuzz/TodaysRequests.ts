/** Requests to the current API: examples of the OpenAPI document with random changes. */
import fc from "fast-check"
import {
  anyJson,
  encoded,
  type HostileRequest,
  identifiers,
  invalidBodies,
  type Known,
  wrongEncoding
} from "./HostileRequests.ts"

/** An operation of the document. */
export interface TodaysOperation {
  readonly method: string
  readonly path: string
  readonly query: ReadonlyArray<string>
  /** The example of the body; undefined if there is none. */
  readonly example: unknown
  /** The content type of a body that is not JSON. */
  readonly otherType: string | undefined
  /** The documented errors with their statuses, such as `403 M_FORBIDDEN`. */
  readonly errors: ReadonlySet<string>
}

/** The names of rooms, events and users on the server. */
export interface TodaysKnown extends Known {
  /** Media IDs of `mxc://` URIs of this server. */
  readonly media: ReadonlyArray<string>
  readonly devices: ReadonlyArray<string>
  readonly streamTokens: ReadonlyArray<string>
  /** Valid values by the name of the parameter. */
  readonly others: { readonly [parameter: string]: ReadonlyArray<string> }
}

interface Document {
  readonly paths: { readonly [path: string]: { readonly [method: string]: DocumentedOperation } }
}

interface DocumentedOperation {
  readonly parameters?: ReadonlyArray<{ readonly name: string; readonly in: string }>
  readonly requestBody?: { readonly content: { readonly [type: string]: { readonly example?: unknown } } }
  readonly responses: { readonly [status: string]: { readonly description?: string } }
}

/** Every operation of the document. */
export const todaysOperations = ({ paths }: Document): ReadonlyArray<TodaysOperation> =>
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody, responses }]) => ({
      method: method.toUpperCase(),
      path,
      query: parameters.filter((parameter) => parameter.in === "query").map(({ name }) => name),
      example: requestBody?.content["application/json"]?.example,
      otherType: Object.keys(requestBody?.content ?? {}).find((type) => type !== "application/json"),
      errors: new Set(
        Object.entries(responses).flatMap(([status, { description = "" }]) =>
          description.split(", ").map((errcode) => `${status} ${errcode}`)
        )
      )
    }))
  )

/** Replaces the identifiers of an example by those of this server, so that it looks for no other server. */
const localised = (value: unknown, known: TodaysKnown): unknown => {
  if (Array.isArray(value)) return value.map((item) => localised(item, known))
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [localised(key, known) as string, localised(item, known)])
    )
  }
  if (typeof value !== "string") return value
  if (/^@[^:]+:/.test(value)) return known.users[1]
  if (/^![^:]+/.test(value)) return known.rooms[0]
  if (/^\$[^:]+/.test(value)) return known.events[0]
  if (/^#[^:]+:/.test(value)) return known.aliases[0]
  if (value.startsWith("mxc://")) return `mxc://green.test/${known.media[0]}`
  return value.replace(/[a-z.-]*example\.(org|com|net)/g, "127.0.0.1:1")
}

/** One change of a body, at the position that `at` selects. */
interface Change {
  readonly at: number
  readonly kind: "replace" | "remove" | "wrap" | "add"
  readonly value: unknown
}

type Position = { readonly parent: Record<string, unknown>; readonly key: string }

const positionsOf = (value: unknown): ReadonlyArray<Position> =>
  typeof value !== "object" || value === null
    ? []
    : Object.entries(value).flatMap(([key, item]) => [
        { parent: value as Record<string, unknown>, key },
        ...positionsOf(item)
      ])

const changed = (body: unknown, changes: ReadonlyArray<Change>): unknown => {
  const copy = structuredClone(body)
  for (const { at, kind, value } of changes) {
    const positions = positionsOf(copy)
    const position = positions[at % Math.max(1, positions.length)]
    if (position === undefined) return value
    const { key, parent } = position
    if (kind === "remove") Reflect.deleteProperty(parent, key)
    else if (kind === "wrap") parent[key] = [parent[key]]
    else if (kind === "add") parent[`${key}_`] = value
    else parent[key] = value
  }
  return copy
}

const changes = (known: Known): fc.Arbitrary<Change> =>
  fc.record({
    at: fc.nat(1_000),
    kind: fc.constantFrom("replace", "replace", "replace", "remove", "wrap", "add"),
    value: anyJson(known)
  })

const bodyOf = (
  { example, method, otherType }: TodaysOperation,
  known: TodaysKnown
): fc.Arbitrary<string | undefined> => {
  if (method === "GET" || method === "HEAD") return fc.constant(undefined)
  if (example === undefined && otherType !== undefined) return fc.string({ unit: "binary", maxLength: 200 })
  const valid = localised(example ?? {}, known)
  const changedExample = fc
    .array(changes(known), { maxLength: 3 })
    .map((list) => JSON.stringify(changed(valid, list)) as string | undefined)
  // JSON with a repeated key has its last value.
  const withRepeatedKey = changedExample.map((text) =>
    text?.startsWith("{") ? `{"type":1,"room_id":[],${text.slice(1)}`.replace(",}", "}") : text
  )
  return fc.oneof(
    { weight: 10, arbitrary: changedExample },
    { weight: 1, arbitrary: withRepeatedKey },
    { weight: 2, arbitrary: invalidBodies },
    { weight: 1, arbitrary: fc.constant(undefined) }
  )
}

const validValues = (name: string, known: TodaysKnown): ReadonlyArray<string> => {
  const others = known.others[name]
  if (others !== undefined) return others
  if (/^room_?id_?or_?alias$/i.test(name)) return [...known.rooms, ...known.aliases]
  if (/room_?id$/i.test(name)) return known.rooms
  if (/(user_?id|^target)$/i.test(name)) return known.users
  if (/event_?id$/i.test(name)) return known.events
  if (/alias/i.test(name)) return known.aliases
  if (/media_?id/i.test(name)) return known.media
  if (/server_?name|^server$|^via$/i.test(name)) return ["green.test", "127.0.0.1:1"]
  if (/device_?id/i.test(name)) return known.devices
  if (/txn_?id/i.test(name)) return Array.from({ length: 9 }, (_, index) => `t${index}`)
  if (/^(from|to|since|batch|next_batch)$/i.test(name)) return known.streamTokens
  if (/event_?type|^type$/i.test(name)) return ["m.room.message", "m.room.name", "m.room.power_levels", "m.room.member"]
  return ["x", "1"]
}

const numbers = fc.constantFrom("0", "1", "-1", "1.5", "1e9", "NaN", "", "9".repeat(400), "0x10", "%00", "true")

const parameter = (name: string, known: TodaysKnown): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...validValues(name, known)).map(encoded) },
    { weight: 1, arbitrary: identifiers(known).map(encoded) },
    { weight: 1, arbitrary: numbers },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 30 }).map(encoded) },
    { weight: 1, arbitrary: fc.constantFrom("", "x".repeat(300), "__proto__", "m.".repeat(3_000)) },
    { weight: 1, arbitrary: wrongEncoding }
  )

const pathOf = ({ path }: TodaysOperation, known: TodaysKnown): fc.Arbitrary<string> =>
  fc
    .tuple(
      ...path.split("/").map((part) => (part.startsWith("{") ? parameter(part.slice(1, -1), known) : fc.constant(part)))
    )
    .map((parts) => parts.join("/"))

const queryValue = (name: string, known: TodaysKnown): fc.Arbitrary<string> => {
  if (/^timeout(_ms)?$/.test(name)) return fc.constantFrom("0", "1", "-1", "abc", "", "0.5")
  if (/limit|depth|width|height|ts$|offset/.test(name)) return fc.oneof(fc.constantFrom("3", "10"), numbers)
  if (name === "dir") return fc.constantFrom("f", "b", "", "x")
  return parameter(name, known)
}

/** Each parameter is absent, present or repeated. Timeouts are always present, so that no request is a long poll. */
const queryOf = ({ query }: TodaysOperation, known: TodaysKnown): fc.Arbitrary<string> =>
  fc
    .tuple(
      ...query.map((name) =>
        fc
          .array(queryValue(name, known), { minLength: /^timeout/.test(name) ? 1 : 0, maxLength: 2 })
          .map((values) => values.slice(0, values.length > 1 && values[0]!.length % 3 > 0 ? 1 : 2))
          .map((values) => values.map((value) => `${encoded(name)}=${value}`))
      ),
      fc.constantFrom([], [], [], ["unknown=1"], ["%=%"], ["a[b]=c"])
    )
    .map((parts) => parts.flat().join("&"))
    .map((query) => (query === "" ? "" : `?${query}`))

/** Requests to an operation. */
export const todaysRequests = (operation: TodaysOperation, known: TodaysKnown): fc.Arbitrary<HostileRequest> =>
  fc
    .record({
      path: pathOf(operation, known),
      query: queryOf(operation, known),
      token: fc.oneof(
        { weight: 10, arbitrary: fc.constantFrom(...known.tokens) },
        { weight: 1, arbitrary: fc.constantFrom(undefined, "", "x", `gr_${"A".repeat(43)}`, "t".repeat(2_000)) }
      ),
      body: bodyOf(operation, known),
      contentType: fc.oneof(
        { weight: 6, arbitrary: fc.constant(operation.otherType ?? "application/json") },
        { weight: 1, arbitrary: fc.constantFrom(undefined, "text/plain", "multipart/form-data", ";;;", "image/png") }
      )
    })
    .map(({ path, query, ...rest }) => ({ method: operation.method, path: path + query, ...rest }))
