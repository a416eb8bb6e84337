/** Federation between a cluster and another home server, whichever node it reaches. */
import { assert, it } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { waitFor } from "../support/Polling.ts"
import { type Person, type Scene, sceneOf, sendMessage, succeeded } from "../support/Scene.ts"
import { at, freePorts, start } from "./support/Cluster.ts"

/** The texts of the messages that the user receives, up to the last one. */
const receivedUntil = Effect.fnUntraced(function* (person: Person, from: string, last: string) {
  const received: Array<string> = []
  yield* waitFor(
    (path) => person.ask("GET", path),
    from,
    (event) => {
      if (event.type === "m.room.message") received.push(event.content.body)
      return event.type === "m.room.message" && event.content.body === last
    }
  )
  return received
})

const end = (person: Person) => Effect.map(person.ask("GET", "/events?timeout=0"), ({ body }) => body.end as string)

it.live(
  "messages to and from another home server arrive once and in order at every node",
  () =>
    Effect.gen(function* () {
      const [redPort = 0] = yield* freePorts(1)
      const tls = { GREENROOM_FEDERATION_VERIFY: "false" }
      const { nodes } = yield* start(3, {
        environment: { ...tls, GREENROOM_FEDERATION_SERVERS: `red.test=127.0.0.1:${redPort}` }
      })
      const [a, b, c] = nodes as [Scene, Scene, Scene]
      const federationPort = /https:\/\/127\.0\.0\.1:(\d+)/.exec(b.gateway.output())?.[1]
      const red = sceneOf(
        yield* GatewayProcess.start({
          serverName: ServerName.make("red.test"),
          dataDir: yield* GatewayProcess.temporaryDirectory,
          databaseUrl: yield* Effect.orDie(TestDatabase.emptyUrl),
          environment: {
            ...tls,
            GREENROOM_FEDERATION_PORT: `${redPort}`,
            GREENROOM_FEDERATION_SERVERS: `green.test=127.0.0.1:${federationPort}`
          }
        })
      )
      const alice = yield* a.register("alice")
      const rose = yield* red.register("rose")
      const { body } = succeeded(yield* alice.ask("POST", "/createRoom", { room_alias_name: "meeting" }))
      succeeded(yield* rose.ask("POST", `/join/${encodeURIComponent("#meeting:green.test")}`, {}))
      const [fromRose, fromAlice] = [yield* end(rose), yield* end(at(c, alice))]
      const texts = Array.from({ length: 12 }, (_, i) => `green${i}`)
      yield* Effect.forEach(
        texts,
        (text, i) => sendMessage(at(nodes[i % 3]!, alice), body.room_id, text).pipe(Effect.map(succeeded)),
        { discard: true }
      )
      assert.deepStrictEqual(yield* receivedUntil(rose, fromRose, texts.at(-1)!), texts)
      succeeded(yield* sendMessage(rose, body.room_id, "red0"))
      assert.deepStrictEqual(yield* receivedUntil(at(c, alice), fromAlice, "red0"), [...texts, "red0"])
    }).pipe(Effect.scoped),
  120_000
)
