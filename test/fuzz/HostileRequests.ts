/** Random requests that resemble an operation of the OpenAPI document, as mistaken and malicious clients send them. */
import fc from "fast-check"

/** An operation of the OpenAPI document. */
export interface Operation {
  readonly method: string
  readonly path: string
  readonly id: string
  readonly query: ReadonlyArray<string>
  /** The documented keys of the body. */
  readonly keys: ReadonlyArray<string>
  /** The documented errors with their statuses, such as `403 M_FORBIDDEN`. */
  readonly errors: ReadonlySet<string>
}

/** Identifiers that exist on the server. */
export interface Known {
  readonly rooms: ReadonlyArray<string>
  readonly users: ReadonlyArray<string>
  readonly events: ReadonlyArray<string>
  readonly aliases: ReadonlyArray<string>
  readonly tokens: ReadonlyArray<string>
}

export interface HostileRequest {
  readonly method: string
  /** Path and query, encoded or not. */
  readonly path: string
  readonly token: string | undefined
  readonly body: string | undefined
  readonly contentType: string | undefined
}

const tooLong = "x".repeat(300)
const odd = [
  "",
  " ",
  ".",
  "..",
  "\0",
  "é",
  "🫖",
  "a/b",
  "%",
  "__proto__",
  "constructor",
  "null",
  "-1",
  tooLong,
  "y".repeat(5_000)
]

/** Any Unicode text. */
const anyText = fc.oneof(fc.constantFrom(...odd), fc.string({ unit: "binary", maxLength: 40 }))

/** Parts of paths with invalid or unusual percent-encoding. */
export const wrongEncoding = fc.constantFrom(
  "%",
  "%z",
  "%zz",
  "%ED%A0%80",
  "%C3",
  "%FF",
  "%00",
  "%2F",
  "%2e%2e",
  "%0d%0a",
  "%u1234"
)

export const encoded = (text: string) => encodeURIComponent(text.toWellFormed())

export const identifiers = (known: Known) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...known.rooms, ...known.users, ...known.events, ...known.aliases) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "!unknown:green.test",
        "@nobody:green.test",
        "$nothing:green.test",
        "#nowhere:green.test",
        "#elsewhere:other.test",
        "@far:other.test",
        "!:green.test",
        "@a:b:c:d",
        `@${tooLong}:green.test`,
        "#ünïcödé:green.test",
        "@\0:green.test",
        "!room"
      )
    }
  )

const eventTypes = fc.constantFrom(
  "m.room.message",
  "m.room.member",
  "m.room.power_levels",
  "m.room.join_rules",
  "m.room.create",
  "m.room.aliases",
  "m.room.name",
  "m.room.config",
  "m.room.redaction",
  "m.room.message.feedback",
  "m.call.invite",
  "org.example.custom"
)

const parameter = (name: string, known: Known): fc.Arbitrary<string> => {
  const valid = (): fc.Arbitrary<string> => {
    switch (name) {
      case "roomId":
        return fc.constantFrom(...known.rooms)
      case "userId":
        return fc.constantFrom(...known.users)
      case "eventId":
        return fc.constantFrom(...known.events)
      case "alias":
        return fc.constantFrom(...known.aliases)
      case "roomIdOrAlias":
        return fc.constantFrom(...known.rooms, ...known.aliases)
      case "type":
        return eventTypes
      case "txnId":
        return fc.stringMatching(/^[a-z0-9]{1,8}$/)
      default:
        return fc.constantFrom("displayname", "avatar_url", "location", "org.example.field", "", "@alice:green.test")
    }
  }
  return fc.oneof(
    { weight: 8, arbitrary: valid().map(encoded) },
    { weight: 2, arbitrary: identifiers(known).map(encoded) },
    { weight: 2, arbitrary: anyText.map(encoded) },
    { weight: 1, arbitrary: wrongEncoding }
  )
}

const pathOf = ({ path }: Operation, known: Known): fc.Arbitrary<string> =>
  fc
    .tuple(
      ...path.split("/").map((part) => (part.startsWith("{") ? parameter(part.slice(1, -1), known) : fc.constant(part)))
    )
    .map((parts) => parts.join("/"))

const numbers = fc.constantFrom(
  "0",
  "1",
  "10",
  "-1",
  "-0",
  "1.5",
  "1e9",
  "NaN",
  "Infinity",
  "abc",
  "",
  "9".repeat(400),
  "0x10",
  "%00"
)
const tokens = fc.oneof(
  fc.constantFrom("START", "END", "start", "", "0", "-1", "s1_2_3", "null", "t".repeat(3_000), "%00", "%FF", "é"),
  anyText.map(encoded)
)

const queryValue = (key: string): fc.Arbitrary<string> => {
  switch (key) {
    case "limit":
      return numbers
    // No long polls, which would take time.
    case "timeout":
      return fc.constantFrom("0", "1", "-1", "abc", "1e3", "", "NaN", "0.5", "%00")
    case "dir":
      return fc.constantFrom("f", "b", "", "x", "fb", "%00")
    default:
      return tokens
  }
}

const queryOf = ({ id, query }: Operation): fc.Arbitrary<string> =>
  fc
    .tuple(
      ...query.map((key) =>
        fc.option(
          queryValue(key).map((value) => `${key}=${value}`),
          { freq: key === "timeout" ? 1_000_000 : 2, nil: undefined }
        )
      ),
      fc.option(fc.constantFrom("limit=1&limit=2", "unknown=1", "%=%", "&&&", "a[b]=c"), { freq: 3, nil: undefined })
    )
    .map((parts) => parts.filter((part) => part !== undefined).join("&"))
    // An empty event ID is the path of the event stream.
    .map((query) => (/^events.(poll|event)$/.test(id) && !query.includes("timeout=") ? `timeout=0&${query}` : query))
    .map((query) => (query === "" ? "" : `?${query}`))

export const anyJson = (known: Known): fc.Arbitrary<unknown> =>
  fc.oneof(
    identifiers(known),
    eventTypes,
    anyText,
    fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e300, 2 ** 53, -(2 ** 60), [], {}, [[]], { a: { b: [] } }),
    fc.constantFrom(
      "public",
      "private",
      "invite",
      "join",
      "leave",
      "ban",
      "knock",
      "online",
      "m.text",
      "m.login.password"
    ),
    fc.jsonValue({ maxDepth: 3 })
  )

/** Valid values by the keys of bodies and of event contents. */
const validValues = (known: Known): { readonly [key: string]: fc.Arbitrary<unknown> } => ({
  user_id: fc.constantFrom(...known.users),
  room_id: fc.constantFrom(...known.rooms),
  target_event_id: fc.constantFrom(...known.events),
  invite: fc.subarray([...known.users]),
  drop: fc.subarray([...known.users]),
  accept: fc.subarray([...known.users]),
  deny: fc.subarray([...known.users]),
  aliases: fc.subarray([...known.aliases]),
  room_alias_name: fc.stringMatching(/^[a-z]{12}$/),
  visibility: fc.constantFrom("public", "private"),
  typing: fc.boolean(),
  timeout: fc.nat(1_000),
  state: fc.constantFrom("online", "unavailable", "offline", "free_for_chat", "hidden"),
  presence: fc.constantFrom("online", "unavailable", "offline", "free_for_chat", "hidden"),
  membership: fc.constantFrom("invite", "join", "leave", "ban", "knock"),
  join_rule: fc.constantFrom("public", "knock", "invite", "private"),
  msgtype: fc.constantFrom("m.text", "m.emote", "m.image", "m.location", "org.example"),
  type: fc.constantFrom("m.login.password", "delivered", "read"),
  users: fc.constantFrom(...known.users).map((user) => ({ [user]: 100 })),
  users_default: fc.constantFrom(0, 50, -1),
  events: fc.constantFrom({}, { "m.room.name": 50 }),
  servers: fc.constantFrom([], ["green.test"]),
  sender_ts: fc.nat()
})

const members = [
  "msgtype",
  "body",
  "membership",
  "join_rule",
  "users",
  "users_default",
  "events",
  "name",
  "topic",
  "aliases",
  "visibility",
  "type",
  "target_event_id",
  "displayname",
  "location"
]

/** An object with mostly valid values. */
const objectBody = ({ keys }: Operation, known: Known): fc.Arbitrary<string> => {
  const valid = validValues(known)
  const hostile = anyJson(known)
  const member = (key: string) =>
    fc.tuple(
      fc.constant(key),
      fc.oneof(
        { weight: 12, arbitrary: Object.hasOwn(valid, key) ? valid[key]! : anyText },
        { weight: 1, arbitrary: hostile }
      )
    )
  const named = keys.length > 0 ? keys : members
  return fc
    .tuple(
      fc.subarray([...named], { minLength: Math.min(1, named.length) }),
      fc.subarray([...members, "__proto__", "toString"], { maxLength: 2 }),
      fc.integer({ min: 0, max: 3 })
    )
    .chain(([some, extra, share]) => fc.tuple(...[...(share > 0 ? named : some), ...extra].map(member)))
    .map((entries) => JSON.stringify(Object.fromEntries(entries)))
}

const nested = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth)

/** Bodies that are invalid for every operation. Some exceed the size limit. */
export const invalidBodies = fc.oneof(
  fc.constantFrom(
    "",
    "{",
    "[]",
    "null",
    "true",
    "1",
    '""',
    "{}{}",
    "{'a': 1}",
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"body": "\\ud800", "msgtype": "m.text"}',
    '{"body": "\\u0000", "msgtype": "m.text"}',
    '{"\\u0000": 1}',
    '{"msgtype": "m.text", "body": "a", "body": 1}',
    '{"__proto__": {"admin": true}, "constructor": 1}',
    '{"users": {"@alice:green.test": 1e308}}',
    '{"n": 123456789012345678901234567890}',
    `{"msgtype": "m.text", "body": "${"z".repeat(70_000)}"}`,
    nested(60_000, "[", "]"),
    `{"a": ${nested(5_000, '{"a":', "}").replace('{"a":}', "{}")}}`
  ),
  fc.string({ unit: "binary", maxLength: 30 })
)

const huge = `{"body": "${"h".repeat(1_200_000)}"}`

const bodyOf = (operation: Operation, known: Known): fc.Arbitrary<string | undefined> =>
  operation.method === "get"
    ? fc.constant(undefined)
    : fc.oneof(
        { weight: 12, arbitrary: objectBody(operation, known) },
        { weight: 5, arbitrary: invalidBodies },
        { weight: 1, arbitrary: fc.constant(undefined) },
        { weight: 1, arbitrary: fc.noShrink(fc.constant(huge)) }
      )

const badTokens = ["", "x", "gr_", `gr_${"A".repeat(43)}`, "null", "t".repeat(2_000), "\u00e9"]

/** Requests to an operation. */
export const hostileRequests = (operation: Operation, known: Known): fc.Arbitrary<HostileRequest> =>
  fc
    .record({
      path: pathOf(operation, known),
      query: queryOf(operation),
      token: fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom(...known.tokens) },
        { weight: 1, arbitrary: fc.constantFrom(undefined, ...badTokens) }
      ),
      body: bodyOf(operation, known),
      contentType: fc.constantFrom(
        undefined,
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "image/png",
        "multipart/form-data",
        ";;;"
      )
    })
    .map(({ path, query, ...rest }) => ({ method: operation.method.toUpperCase(), path: path + query, ...rest }))

interface Document {
  readonly paths: { readonly [path: string]: { readonly [method: string]: DocumentedOperation } }
  readonly components: { readonly schemas: { readonly [name: string]: DocumentedSchema } }
}

interface DocumentedOperation {
  readonly operationId: string
  readonly parameters?: ReadonlyArray<{ readonly name: string; readonly in: string }>
  readonly requestBody?: { readonly content: { readonly [type: string]: { readonly schema: DocumentedSchema } } }
  readonly responses: { readonly [status: string]: { readonly description?: string } }
}

interface DocumentedSchema {
  readonly $ref?: string
  readonly properties?: { readonly [key: string]: unknown }
  readonly anyOf?: ReadonlyArray<DocumentedSchema>
  readonly allOf?: ReadonlyArray<DocumentedSchema>
}

/** Every operation of the document. */
export const operationsOf = ({ components, paths }: Document): ReadonlyArray<Operation> => {
  const keysOf = (schema: DocumentedSchema): ReadonlyArray<string> => {
    const referred = schema.$ref === undefined ? undefined : components.schemas[schema.$ref.split("/").at(-1) ?? ""]
    return [
      ...Object.keys(schema.properties ?? {}),
      ...[...(schema.anyOf ?? []), ...(schema.allOf ?? []), ...(referred === undefined ? [] : [referred])].flatMap(
        keysOf
      )
    ]
  }
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId, parameters = [], requestBody, responses }]) => ({
      method,
      path,
      id: operationId,
      query: parameters.filter((parameter) => parameter.in === "query").map(({ name }) => name),
      keys: Object.values(requestBody?.content ?? {}).flatMap(({ schema }) => keysOf(schema)),
      errors: new Set(
        Object.entries(responses).flatMap(([status, { description = "" }]) =>
          description.split(", ").map((errcode) => `${status} ${errcode}`)
        )
      )
    }))
  )
}
