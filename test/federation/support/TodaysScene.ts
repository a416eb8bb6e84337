/** Rooms of the versions 1 to 12 with users of two home servers and of a hostile one, which uses today's dialect. */
import { Effect } from "effect"
import type { Body } from "../../support/Curl.ts"
import type { Person } from "../../support/Scene.ts"
import type { HostileNetwork } from "./HostileNetwork.ts"
import { notFound } from "./HostileServer.ts"
import { expectOk, type HomeServer, isMember, sees } from "./Network.ts"

/** Creates a room by today's client API. Returns its ID. */
export const createRoom = (person: Person, version: string, options: Body = {}): Effect.Effect<string> =>
  Effect.map(
    expectOk(
      person.ask("POST", "//_matrix/client/v3/createRoom", {
        preset: "public_chat",
        room_version: version,
        ...options
      })
    ),
    ({ room_id }) => room_id
  )

/** Joins a room through the given server. */
export const joinThrough = (person: Person, roomId: string, server: Pick<HomeServer, "serverName">) =>
  person.ask("POST", `//_matrix/client/v3/join/${encodeURIComponent(roomId)}?via=${server.serverName}`, {})

let scenes = 0

/** Alice of red, Bob of blue and Mallory of evil in a public room of a version. */
export const todaysScene = Effect.fnUntraced(function* ({ evil, ...net }: HostileNetwork, version: string) {
  const [red, blue] = net.servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const room_id = yield* createRoom(alice, version)
  yield* expectOk(joinThrough(bob, room_id, red))
  const mallory = `@mallory${number}:evil.test`
  evil.respond = () => notFound
  const room = yield* evil.join(red, room_id, mallory)
  for (const person of [alice, bob]) {
    yield* sees(person, (event) => event.room_id === room_id && isMember(mallory, "join")(event))
  }
  return { ...net, evil, red, blue, alice, bob, mallory, room, room_id, version, number }
})

export type TodaysScene = Effect.Success<ReturnType<typeof todaysScene>>
