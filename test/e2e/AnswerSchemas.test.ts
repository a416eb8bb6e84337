/**
 * Answers of the current API, checked by its OpenAPI description. The typed client takes its types from there, and nothing checks answers
 * at run time.
 */
import { assert, layer } from "@effect/vitest"
import { Ajv2020 } from "ajv/dist/2020.js"
import { Effect } from "effect"
import { roomOf, Stage, succeeded } from "../support/Scene.ts"

const v3 = (path: string) => `//_matrix/client/v3${path}`
const v1 = (path: string) => `//_matrix/client/v1${path}`

interface Description {
  readonly paths: { readonly [path: string]: { readonly [method: string]: unknown } }
}

layer(Stage.layer(), { excludeTestServices: true })("answers", (it) => {
  it.effect("answers fit the schemas of the API description", () =>
    Effect.gen(function* () {
      const { gateway, register } = yield* Stage
      const description: Description = yield* Effect.promise(
        async () => (await fetch(`${gateway.url}/openapi/client-server.json`)).json() as Promise<Description>
      )
      const ajv = new Ajv2020({ strict: false, validateFormats: false })
      ajv.addSchema(description, "api")
      /** The errors of an answer according to the schema of its endpoint. */
      const problems = (method: string, path: string, answer: unknown) => {
        const pointer = [path, method, "responses", "200", "content", "application/json", "schema"].map((part) =>
          encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))
        )
        const validate = ajv.getSchema(`api#/paths/${pointer.join("/")}`)
        assert.isDefined(validate, `${method} ${path} is described`)
        return validate?.(answer) ? [] : (validate?.errors ?? [])
      }
      const alice = yield* register("alice")
      const bob = yield* register("bob")
      const room = yield* roomOf(alice, bob)
      const own = `/user/${encodeURIComponent(alice.userId)}`
      succeeded(yield* alice.ask("PUT", v3(`/rooms/${room}/send/m.room.message/1`), { msgtype: "m.text", body: "tea" }))
      succeeded(yield* alice.ask("PUT", v3(`${own}/rooms/${room}/tags/m.favourite`), { order: 0.5 }))
      succeeded(yield* alice.ask("PUT", v3(`/directory/list/room/${room}`), { visibility: "public" }))
      const requests: ReadonlyArray<
        readonly [method: string, endpoint: string, path?: string | undefined, body?: object]
      > = [
        ["get", "/_matrix/client/v3/sync"],
        [
          "post",
          "/_matrix/client/v4/sync",
          undefined,
          {
            lists: { all: { ranges: [[0, 9]], timeline_limit: 5, required_state: [["*", "*"]] } },
            extensions: { e2ee: { enabled: true }, account_data: { enabled: true }, to_device: { enabled: true } }
          }
        ],
        ["get", "/_matrix/client/v3/initialSync"],
        ["get", "/_matrix/client/v3/rooms/{roomId}/initialSync", v3(`/rooms/${room}/initialSync`)],
        ["get", "/_matrix/client/v3/rooms/{roomId}/joined_members", v3(`/rooms/${room}/joined_members`)],
        ["get", "/_matrix/client/v3/pushrules"],
        ["get", "/_matrix/client/v3/pushrules/global"],
        ["get", "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}", v3("/pushrules/global/override/.m.rule.master")],
        ["get", "/_matrix/client/v3/notifications"],
        ["get", "/_matrix/client/v3/pushers"],
        ["get", "/_matrix/client/v3/login"],
        ["get", "/_matrix/client/v3/voip/turnServer"],
        ["get", "/_matrix/client/v3/thirdparty/protocols"],
        ["get", "/_matrix/client/v3/publicRooms"],
        ["get", "/_matrix/client/v1/room_summary/{roomIdOrAlias}", v1(`/room_summary/${room}`)],
        ["get", "/_matrix/client/v1/rooms/{roomId}/hierarchy", v1(`/rooms/${room}/hierarchy`)],
        ["get", "/_matrix/client/v3/profile/{userId}", v3(`/profile/${encodeURIComponent(alice.userId)}`)],
        ["get", "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags", v3(`${own}/rooms/${room}/tags`)],
        ["get", "/.well-known/matrix/client", "//.well-known/matrix/client"],
        [
          "post",
          "/_matrix/client/v3/search",
          undefined,
          {
            search_categories: {
              room_events: {
                search_term: "tea",
                include_state: true,
                event_context: { include_profile: true },
                groupings: { group_by: [{ key: "room_id" }] }
              }
            }
          }
        ],
        [
          "post",
          "/_matrix/client/v3/keys/upload",
          undefined,
          {
            one_time_keys: { "signed_curve25519:A": { key: "A", signatures: {} } }
          }
        ],
        ["post", "/_matrix/client/v3/keys/query", undefined, { device_keys: { [alice.userId]: [] } }],
        ["post", "/_matrix/client/v3/keys/claim", undefined, { one_time_keys: {} }]
      ]
      for (const [method, endpoint, path = `/${endpoint}`, body] of requests) {
        const answer = succeeded(yield* alice.ask(method.toUpperCase(), path, body)).body
        assert.deepStrictEqual(problems(method, endpoint, answer), [], `${method} ${endpoint}`)
      }
    })
  )
})
