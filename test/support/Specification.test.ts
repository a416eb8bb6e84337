import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { readSpecification, type Specification } from "./Specification.ts"

const document = `
paths:
  "/rooms/{roomId}/thing/":
    get:
      responses:
        "200":
          content:
            application/json:
              schema: { $ref: definitions/thing.yaml }
        "409":
          description: Refused with M_TAKEN.
  "/rooms/fixed/thing":
    get:
      responses: {}
servers:
  - variables: { basePath: { default: /_matrix/client/v3 } }
`
const thing =
  "{ type: object, required: [name], properties: { name: { type: string }, parts: { type: array, items: { $ref: thing.yaml } } } }"

describe("Specification", () => {
  let directory: string
  let specification: Specification
  const check = (status: number, body: unknown) =>
    specification.check({ method: "GET", path: "/_matrix/client/r0/rooms/%21a/thing", status, body })

  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-spec-"))
    const folder = path.join(directory, "api", "client-server")
    await fs.mkdir(path.join(folder, "definitions"), { recursive: true })
    await fs.writeFile(path.join(folder, "things.yaml"), document)
    await fs.writeFile(path.join(folder, "definitions", "thing.yaml"), thing)
    specification = await readSpecification(directory)
  })
  afterAll(() => fs.rm(directory, { recursive: true, force: true }))

  it("a body that conforms to its schema passes, and errors name the place in one that does not", () => {
    expect(check(200, { name: "a", parts: [{ name: "b" }] })).toEqual([])
    expect(check(200, { parts: [] })).toEqual(["must have required property 'name'"])
    expect(check(200, { name: 1 })).toEqual(["/name must be string"])
  })

  it("errors must be documented for the operation or for every operation", () => {
    expect(check(409, { errcode: "M_TAKEN", error: "" })).toEqual([])
    expect(check(403, { errcode: "M_FORBIDDEN", error: "" })).toEqual([])
    expect(check(409, { errcode: "M_OTHER", error: "" })).toEqual([
      "409 M_OTHER: the code is not documented for this status"
    ])
    expect(check(418, { errcode: "M_FORBIDDEN", error: "" })).toEqual(["418 M_FORBIDDEN: the status is not documented"])
    expect(check(403, {})).toEqual(["403 without errcode and error"])
  })

  it("a path without parameters has precedence over one with parameters, and unspecified paths have no operation", () => {
    expect(specification.nameOf("GET", "/_matrix/client/v3/rooms/fixed/thing")).toBe(
      "GET /_matrix/client/v3/rooms/fixed/thing"
    )
    expect(specification.nameOf("GET", "/_matrix/client/v3/else")).toBeUndefined()
  })
})
