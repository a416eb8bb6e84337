/**
 * An example for every body of an OpenAPI document, made of its schema: from its `examples`, a default, or the first of an
 * enumeration, else the usual value of its key in Matrix, else the simplest value of its type.
 */
type JsonSchema = { readonly [key: string]: unknown }

const isObject = (value: unknown): value is JsonSchema =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Values by the names of keys, of whichever type. Where the type does not fit, the key has another meaning there. */
const byName: { readonly [name: string]: ReadonlyArray<unknown> } = {
  access_token: ["gr_vG8HgbM8zt_QSJ0HXBBYZinnzC8_wV5n41LSiRL4Kh4"],
  address: ["alice@example.org"],
  admin: [false],
  age: [1200],
  alias: ["#tea:example.org"],
  aliases: [["#tea:example.org"]],
  avatar_url: ["https://example.org/alice.png"],
  body: ["More tea?"],
  client_secret: ["a-random-secret"],
  created_ts: [1795652744504],
  deactivated_ts: [1795739144000],
  destination: ["blue.example"],
  backoff_until: [1795652804504],
  code: ["17430295"],
  device_name: ["Alice's phone"],
  drop: [["@carol:example.org"]],
  invite: [["@bob:example.org"]],
  expires_ts: [1795739144504],
  last_error: ["connect ECONNREFUSED 192.0.2.7:8448"],
  device_id: ["bqlDcLoV1nM"],
  display_name: ["Alice's phone"],
  displayname: ["Alice"],
  email: ["alice@example.org"],
  end: ["s771_9007199254740991"],
  error: ["The fault in words"],
  event_id: ["$RhAcvIYoyzjGWJ-IB5Kulg:example.org"],
  failures: [0],
  from: ["s770_9007199254740991"],
  home_server: ["example.org"],
  id_server: ["id.example.org"],
  initial_device_display_name: ["Alice's phone"],
  inviter: ["@bob:example.org"],
  last_active_ago: [1200],
  last_attempt_ts: [1795652744504],
  last_seen_ts: [1795652744504],
  last_success_ts: [1795652744504],
  limit: [10],
  membership: ["join"],
  name: ["Tea room"],
  new_password: ["a longer secret"],
  next: ["m.login.email.code"],
  num_joined_members: [2],
  old_password: ["wonderland"],
  origin_server_ts: [1795652744504],
  password: ["wonderland"],
  presence: ["online"],
  provider: ["example"],
  queue_length: [0],
  reason: ["Mind your manners"],
  refresh_token: ["gr_EY28phLXhXSRgvK5jvyDnRddodksx7gtAfQ4y5lQDPY"],
  retry_after_ms: [2000],
  room_alias: ["#tea:example.org"],
  room_alias_name: ["tea"],
  room_id: ["!fY2ET2S4eXPxms6yksRq:example.org"],
  sender: ["@alice:example.org"],
  server: ["example.org"],
  session: ["c2Vzc2lvbg"],
  sid: ["fkmPbGzL3o"],
  start: ["s770_9007199254740991"],
  state: ["online"],
  state_key: [""],
  subject: ["8023451"],
  status_msg: ["Having tea"],
  three_pid: ["alice@example.org"],
  timeout: [30000],
  token: ["a-token"],
  token_id: ["5f2b7c1d9e04"],
  topic: ["Five o'clock"],
  ts: [1795652744504],
  ttl: [86400],
  type: ["m.login.password", "m.room.message"],
  uri: ["https://example.org/matrix/client/api/v1/login/oauth2/services?ticket=dGlja2V0"],
  uris: [["turn:turn.example.org:3478?transport=udp"]],
  user: ["alice"],
  user_id: ["@alice:example.org"],
  username: ["1795739144:@alice:example.org"],
  valid_for: [604800000],
  validated_at: [1795652744504],
  version: ["0.1.0"]
}

const typeOf = (value: unknown): string => {
  if (value === null) return "null"
  if (Array.isArray(value)) return "array"
  return Number.isInteger(value) ? "integer" : typeof value
}

const fits = (value: unknown, { pattern, type }: JsonSchema): boolean => {
  const types = Array.isArray(type) ? type : [type]
  if (
    type !== undefined &&
    !types.includes(typeOf(value)) &&
    !(typeOf(value) === "integer" && types.includes("number"))
  ) {
    return false
  }
  return typeof pattern !== "string" || typeof value !== "string" || new RegExp(pattern, "u").test(value)
}

/** Examples of identifiers, by the sigil that their pattern begins with. */
const bySigil: ReadonlyArray<string> = [
  "@alice:example.org",
  "!fY2ET2S4eXPxms6yksRq:example.org",
  "#tea:example.org",
  "$RhAcvIYoyzjGWJ-IB5Kulg:example.org",
  "example.org"
]

const simplest = (schema: JsonSchema): unknown => {
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  switch (type) {
    case "string":
      return typeof schema.pattern === "string" ? (bySigil.find((text) => fits(text, schema)) ?? "text") : "text"
    case "integer":
    case "number":
      return Math.max(0, Number(schema.minimum ?? 0))
    case "boolean":
      return true
    case "null":
      return null
    default:
      return {}
  }
}

/** How deep an example may nest, so that schemas which contain themselves end. */
const maxDepth = 8

/** Makes examples of the schemas of a document. */
export const makeExamples = (schemas: { readonly [name: string]: unknown }) => {
  const resolve = (schema: unknown): JsonSchema => {
    const reference = isObject(schema) ? schema.$ref : undefined
    if (typeof reference !== "string") return isObject(schema) ? schema : {}
    return resolve(schemas[reference.slice(reference.lastIndexOf("/") + 1)])
  }

  const members = (schema: JsonSchema, depth: number): { [key: string]: unknown } => {
    const properties = isObject(schema.properties) ? schema.properties : {}
    const required = new Set(Array.isArray(schema.required) ? schema.required : [])
    return Object.fromEntries(
      Object.entries(properties).flatMap(([key, member]) => {
        if (depth >= maxDepth && !required.has(key)) return []
        return [[key, exampleOf(member, key, depth + 1)]]
      })
    )
  }

  const exampleOf = (unresolved: unknown, name = "", depth = 0): unknown => {
    const schema = resolve(unresolved)
    if (Array.isArray(schema.examples) && schema.examples.length > 0) return schema.examples[0]
    if ("const" in schema) return schema.const
    const known = (byName[name] ?? []).find((value) => fits(value, schema))
    if (Array.isArray(schema.enum)) return schema.enum.includes(known) ? known : schema.enum[0]
    if (known !== undefined && "type" in schema) return known
    if ("default" in schema) return schema.default
    const choices = (schema.anyOf ?? schema.oneOf) as ReadonlyArray<unknown> | undefined
    if (choices !== undefined) {
      return exampleOf(choices.find((choice) => resolve(choice).type !== "null") ?? choices[0], name, depth)
    }
    if (Array.isArray(schema.allOf)) {
      const parts = [schema, ...schema.allOf.map(resolve)]
      return exampleOf(Object.assign({}, ...parts, { allOf: undefined, properties: merged(parts) }), name, depth)
    }
    if (schema.type === "array")
      return depth >= maxDepth ? [] : [exampleOf(schema.items, name.replace(/s$/, ""), depth + 1)]
    return schema.type === "object" ? members(schema, depth) : simplest(schema)
  }

  return (schema: unknown): unknown => exampleOf(schema)
}

const merged = (parts: ReadonlyArray<JsonSchema>): JsonSchema =>
  Object.assign({}, ...parts.map((part) => part.properties))
