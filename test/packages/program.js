// A home server in a program of somebody else: the same text is run as JavaScript and checked as TypeScript.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Accounts, HomeServer, Rooms } from "@greenroom/actors"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Console, Effect, Redacted } from "effect"

const program = Effect.gen(function* () {
  const accounts = yield* Accounts
  const rooms = yield* Rooms
  const { access_token } = yield* accounts.register({ localpart: "alice", password: Redacted.make("wonderland") })
  const alice = yield* accounts.authenticate(access_token)
  const { room_id } = yield* rooms.create(alice, { visibility: "public" })
  // A key with an escape: today's V8 reads the second one as the first where nothing mends it.
  const [, body] = Object.keys(JSON.parse('{"\\\\": 0, "\\"": 0}'))
  yield* rooms.send(alice, room_id, "m.room.message", { msgtype: "m.text", body: `key ${body}` })
  const { chunk } = yield* rooms.messages(alice, room_id, { limit: 1 })
  yield* Console.log(JSON.stringify(chunk[0]?.content))
})

const homeServer = HomeServer.layer({ serverName: ServerName.make("localhost"), dataDir: "./data" })
NodeRuntime.runMain(Effect.provide(program, homeServer))
