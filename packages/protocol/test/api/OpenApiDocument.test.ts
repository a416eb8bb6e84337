import { assert, describe, it } from "@effect/vitest"
import { ClientApi, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { operationsOf } from "@greenroom/protocol/api/OpenApiDocument"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { closeCodes } from "@greenroom/protocol/SocketFrame"
import { socketMethods } from "@greenroom/protocol/SocketMethod"
import { Schema, SchemaRepresentation } from "effect"
import { type HttpApi, OpenApi } from "effect/http-api"

type JsonSchema = { readonly [key: string]: unknown }

const documents = Object.entries({ ClientApi, ClientServerApi, IdentityApi }).map(
  ([name, api]) => [name, OpenApi.fromApi(api as unknown as HttpApi.Top as never)] as const
)

/** All schemas in a value. */
const schemasIn = (value: unknown): ReadonlyArray<JsonSchema> =>
  typeof value !== "object" || value === null
    ? []
    : [
        value as JsonSchema,
        ...Object.entries(value).flatMap(([key, member]) => (key === "example" ? [] : schemasIn(member)))
      ]

/** The JSON bodies of a document, by their positions. */
const bodiesOf = (document: OpenApi.OpenAPISpec) =>
  operationsOf(document).flatMap((operation) =>
    [operation.requestBody, ...Object.values(operation.responses)].flatMap((body) => {
      const content = body?.content?.["application/json"] as JsonSchema | undefined
      return content === undefined ? [] : [{ where: operation.operationId, content }]
    })
  )

/** A schema that validates values against a schema of the document. */
const checkerOf = (document: OpenApi.OpenAPISpec, schema: unknown) => {
  const local = (value: unknown) =>
    JSON.parse(JSON.stringify(value).replaceAll("#/components/schemas/", "#/$defs/"), (key, member) =>
      key === "examples" || key === "default" ? undefined : member
    )
  return SchemaRepresentation.fromJsonSchemaDocument(
    { dialect: "draft-2020-12", schema: local(schema), definitions: local(document.components.schemas) },
    { patterns: "apply" }
  ) as Schema.Codec<unknown>
}

for (const [name, document] of documents) {
  describe(`the OpenAPI document of ${name}`, () => {
    it("the document has the server of the API", () => {
      assert.deepStrictEqual((document as unknown as JsonSchema).servers, [{ url: "/", description: "This server" }])
    })

    it("objects without declared keys accept any keys", () => {
      for (const schema of schemasIn([document.paths, document.components.schemas])) {
        if (schema.type !== "object" || "properties" in schema || "allOf" in schema) continue
        assert.property(schema, "additionalProperties", JSON.stringify(schema))
        assert.notStrictEqual(schema.additionalProperties, false)
      }
    })

    it("every body has an example that fits its schema", () => {
      const bodies = bodiesOf(document)
      assert.isAbove(bodies.length, 5)
      for (const { content, where } of bodies) {
        assert.property(content, "example", where)
        const isValid = Schema.is(checkerOf(document, content.schema))(content.example)
        assert.isTrue(isValid, `${where}: ${JSON.stringify(content.example)}`)
      }
    })
  })
}

describe("the OpenAPI document of the draft's client API", () => {
  const document = OpenApi.fromApi(ClientApi)

  it("query parameters have the types number and enumeration", () => {
    const { parameters } = operationsOf(document).find(({ operationId }) => operationId === "rooms.messages")!
    const typeOf = (name: string) => parameters.find((parameter) => parameter.name === name)?.schema as JsonSchema
    assert.deepInclude(typeOf("limit"), { type: "integer", minimum: 0, maximum: 1000, default: 10 })
    assert.deepInclude(typeOf("dir"), { type: "string", enum: ["f", "b"] })
    assert.deepInclude(typeOf("feedback"), { type: "boolean" })
    assert.deepInclude(typeOf("from"), { type: "string" })
  })

  it("the document describes the methods, close codes and errors of the WebSocket", () => {
    const { description = "" } = document.paths[`${clientPrefix}/socket`]!.get!
    for (const method of Object.keys(socketMethods))
      assert.match(description, new RegExp(`^\\| \`${method}\` \\| .* \\| .+ \\|$`, "m"))
    for (const code of Object.values(closeCodes)) assert.match(description, new RegExp(`^\\| ${code} \\| .+ \\|$`, "m"))
    for (const errcode of ["M_NOT_JSON", "M_BAD_JSON", "M_UNRECOGNIZED"]) assert.include(description, `| ${errcode} |`)
    assert.include(description, "| `send` | `room_id`, `type`, `content`, `txn_id?` |")
  })
})
