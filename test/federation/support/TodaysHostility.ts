/** The servers, rooms and forged events of the tests of hostile servers in today's dialect. */
import { assert } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../../support/Curl.ts"
import { type HostileNetwork, type HostileScene, hostileNetwork } from "./HostileNetwork.ts"
import type { GraphOverrides } from "./HostileServer.ts"
import { type TodaysScene, todaysScene } from "./TodaysScene.ts"

export class Servers extends Context.Service<Servers, HostileNetwork>()("greenroom/test/TodaysHostility") {
  static readonly layer = Layer.effect(Servers, hostileNetwork(["red.test", "blue.test"], { dialect: "today" }))
}

export const versions = ["6", "11", "12"]

/** Alice of red, Bob of blue and Mallory of evil in a public room of a version. */
export const sceneOf = (version: string) => Effect.flatMap(Servers, (network) => todaysScene(network, version))

/**
 * Sends both servers an event with a signature of red by a key that red does not have. It is refused, or kept as unverified if the keys
 * of red were requested recently, because red may publish another key later. To be called within `leavesRoomUnchanged`.
 */
export const forgedSignature = Effect.fnUntraced(function* ({ blue, evil, red }: HostileScene, event: Event) {
  for (const server of [red, blue]) {
    const [answer] = yield* evil.tell(server, event)
    if (answer !== undefined) assert.match(answer, /signature/)
  }
})

export const memberOf = (
  { evil, mallory, room }: TodaysScene,
  userId: string,
  membership: string,
  content: Body = {},
  overrides: GraphOverrides = {}
) =>
  evil.event(
    room,
    { type: "m.room.member", state_key: userId, sender: mallory, content: { membership, ...content } },
    overrides
  )

/** The power levels of the room with other levels of some users. */
export const levelsOf = ({ room }: TodaysScene, changes: Body) => {
  const levels = room.state.get("m.room.power_levels\0")!
  return { ...levels.content, users: { ...(levels.content.users as object), ...changes } }
}

export const room = (kind: string, roomId: string, rest = "") => `/v1/${kind}/${encodeURIComponent(roomId)}${rest}`
