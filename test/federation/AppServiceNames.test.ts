/**
 * Users and aliases in the namespaces of application services that users of other servers ask for before they exist.
 *
 * Source: "Querying" of the application service API.
 */
import { createServer } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import { listen } from "@greenroom/gateway/NodeServer"
import type { RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import { homeServers, type TestServer } from "./support/HomeServers.ts"

/** An application service. `makes` creates what it is asked for, by the path of the question; false if there is no such thing. */
const appService = Effect.gen(function* () {
  const port = yield* freePort
  const service = {
    url: `http://127.0.0.1:${port}`,
    asked: [] as Array<string>,
    makes: async (_path: string): Promise<boolean> => false
  }
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url!)
    const isTransaction = path.startsWith("/_matrix/app/v1/transactions/")
    if (!isTransaction) service.asked.push(path)
    void service.makes(path).then((isMade) => {
      response.writeHead(isTransaction || isMade ? 200 : 404, { "content-type": "application/json" }).end("{}")
    })
  })
  yield* Effect.orDie(listen(server, { host: "127.0.0.1", port }))
  return service
})

describe("Names of application services", () => {
  it.live("are made when users of other servers invite them, or join by them", () =>
    Effect.gen(function* () {
      const service = yield* appService
      const namespaces = {
        users: [{ exclusive: false, regex: "@_irc_.*" }],
        aliases: [{ exclusive: false, regex: "#_irc_.*" }]
      }
      const registration = { id: "irc", url: service.url, as_token: "as", hs_token: "hs", sender_localpart: "ircbot" }
      const options = { "blue.test": { appServices: [{ ...registration, namespaces }] } }
      const [red, blue] = (yield* homeServers(["red.test", "blue.test"], { options })) as [TestServer, TestServer]
      const [alice, bob] = [yield* red.person("alice"), yield* blue.person("bob")]
      const create = (server: TestServer, session: Session) =>
        Effect.map(
          server.run(Rooms.use((rooms) => rooms.create(session, { room_version: "11", visibility: "public" }))),
          ({ room_id }) => room_id
        )
      const [room, channel] = [yield* create(red, alice), yield* create(blue, bob)]
      const invite = (localpart: string, to: RoomId = room) =>
        Effect.match(
          red.run(Rooms.use((rooms) => rooms.setMembership(alice, to, "invite", `@${localpart}:blue.test` as UserId))),
          { onSuccess: () => "invited", onFailure: ({ error }) => error }
        )
      const join = (localpart: string) =>
        Effect.match(red.run(Rooms.use((rooms) => rooms.join(alice, `#${localpart}:blue.test` as RoomAlias))), {
          onSuccess: ({ room_id }) => room_id as string,
          onFailure: ({ _tag }) => _tag
        })

      assert.include(yield* invite("_irc_tea"), "There is no user")
      assert.strictEqual(yield* join("_irc_tea"), "M_NOT_FOUND")
      const [user, alias] = ["/_matrix/app/v1/users/@_irc_tea:blue.test", "/_matrix/app/v1/rooms/#_irc_tea:blue.test"]
      assert.includeMembers(service.asked, [user, alias])

      service.makes = async (path) => {
        if (path === user) await Effect.runPromise(blue.person("_irc_tea"))
        else if (path === alias)
          await Effect.runPromise(
            blue.run(Rooms.use((rooms) => rooms.setAlias(bob, "#_irc_tea:blue.test" as RoomAlias, channel)))
          )
        else return false
        return true
      }
      assert.strictEqual(yield* invite("_irc_tea"), "invited")
      assert.strictEqual(yield* join("_irc_tea"), channel)

      // What is there, or in no namespace, is not asked for.
      const before = service.asked.length
      assert.strictEqual(yield* invite("_irc_tea", yield* create(red, alice)), "invited")
      assert.include(yield* invite("tea"), "There is no user")
      assert.strictEqual(yield* join("tea"), "M_NOT_FOUND")
      assert.lengthOf(service.asked, before)
    }).pipe(Effect.scoped)
  )
})
