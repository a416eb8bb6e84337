/** Servers that administrators have banned, in both dialects of federation. */
import { assert, describe, it } from "@effect/vitest"
import { Peers } from "@greenroom/actors/federation/Peers"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { Bans } from "@greenroom/actors/runtime/Bans"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { homeServers, isMessage, message } from "./support/HomeServers.ts"
import { type Dialect, HostileServer } from "./support/HostileServer.ts"

const dialects: ReadonlyArray<readonly [dialect: Dialect, version: string | undefined]> = [
  ["draft", undefined],
  ["today", "12"]
]

const isEvent = (body: string) => (event: Event) => event.type === "m.room.message" && event.content.body === body

describe("Bans of servers", () => {
  for (const [dialect, version] of dialects) {
    it.live(
      `a banned server gets no answers and no events until the ban is lifted, in the dialect of ${dialect}`,
      () =>
        Effect.gen(function* () {
          const port = yield* freePort
          const evil = new HostileServer("evil.test", dialect)
          yield* evil.listen(port)
          const [red] = yield* homeServers(["red.test"], { others: { "evil.test": port } })
          const at = { serverName: red!.serverName, federationPort: red!.settings.port }
          const alice = yield* red!.person("alice")
          const { room_id } = yield* red!.run(
            Rooms.use((rooms) =>
              rooms.create(alice, {
                visibility: "public",
                ...(version === undefined ? {} : { room_version: version })
              } as never)
            )
          )
          const say = (body: string) =>
            red!.run(Rooms.use((rooms) => rooms.send(alice, room_id, "m.room.message", message(body))))
          const mallory = "@mallory:evil.test"
          const room = yield* evil.join(at, room_id, mallory)
          /** A message of Mallory that follows the one before. */
          const messageOfMallory = (body: string): Event => {
            const event = evil.event(room, { sender: mallory, content: message(body) })
            room.extremities = [event]
            return event
          }
          assert.deepStrictEqual(yield* evil.tell(at, messageOfMallory("before")), [undefined])
          yield* red!.sees(alice, isMessage("before"))
          yield* say("hello")
          yield* evil.receives(isEvent("hello"))

          const bannedBy = "@alice:red.test" as UserId
          yield* red!.run(
            Bans.use((bans) => bans.add({ kind: "server", value: "evil.test", reason: "it lies", bannedBy }))
          )
          const late = messageOfMallory("while banned")
          const [make, state] = dialect === "draft" ? ["/make_join", "/state"] : ["/v1/make_join", "/v1/state"]
          const inPath = encodeURIComponent(room_id)
          const answers = [
            yield* evil.send(at, [evil.toPdu(late)]),
            yield* evil.ask(at, "GET", `${make}/${inPath}/${encodeURIComponent("@other:evil.test")}?ver=12`),
            yield* evil.ask(at, "GET", `${state}/${inPath}?event_id=${encodeURIComponent(late.event_id)}`)
          ]
          for (const { body, status } of answers) {
            assert.deepStrictEqual([status, body.errcode], [403, "M_FORBIDDEN"])
            assert.include(body.error, "banned")
          }
          yield* say("secret")
          const report = red!.run(
            Effect.map(
              Effect.flatMap(Peers, (peers) => peers.list),
              (list) => list.find(({ destination }) => destination === "evil.test")
            )
          )
          yield* Effect.repeat(report, {
            until: (found) => (found?.failures ?? 0) > 0,
            schedule: Schedule.spaced("20 millis")
          })
          assert.isUndefined(evil.received.find(isEvent("secret")))
          // As after many attempts.
          const now = Date.now()
          yield* red!.run(
            SqlClient.SqlClient.use(
              (sql) => sql`UPDATE destinations SET retry_at = ${now + 3_600_000} WHERE destination = 'evil.test'`
            )
          )
          yield* Effect.repeat(report, {
            until: (found) => (found?.last_attempt_ts ?? 0) > now,
            schedule: Schedule.spaced("20 millis")
          })

          yield* red!.run(Bans.use((bans) => bans.lift("server", "evil.test")))
          yield* evil.receives(isEvent("secret"))
          assert.strictEqual(evil.received.filter(isEvent("secret")).length, 1)
          assert.deepStrictEqual(yield* evil.tell(at, late), [undefined])
          yield* red!.sees(alice, isMessage("while banned"))
        }).pipe(Effect.scoped),
      60_000
    )
  }
})
