/**
 * Sends other servers which of our users type in rooms that they share: when a user starts and stops, and again from
 * time to time, because other servers end the typing of a user after a while without a repeat.
 *
 * Source: "Typing notifications" and "PDUs and EDUs" of the specification.
 */
import { type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { keepRunning, periodically } from "@greenroom/store/Supervision"
import { Effect, Layer } from "effect"
import { EphemeralStream, type TypingUpdate } from "../presence/EphemeralStream.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Peers } from "./Peers.ts"

/** How often typing is repeated to other servers while it lasts. Shorter than `remoteTypingTimeout`. */
const repeatInterval = "20 seconds"

/** The time after which a user of another server stops typing, unless the server sends it again, in milliseconds. */
export const remoteTypingTimeout = 45_000

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const stream = yield* EphemeralStream
  const roomServers = yield* RoomServerStore
  const peers = yield* Peers
  /** The typing users of this server as other servers know them, and whether this node has sent them. */
  const sentTypists = new Map<RoomId, { readonly users: ReadonlySet<UserId>; readonly isOwn: boolean }>()

  const queueTyping = Effect.fnUntraced(function* (roomId: RoomId, changes: ReadonlyMap<UserId, boolean>) {
    if (changes.size === 0) return
    const servers = (yield* roomServers.serversOf([roomId])).get(roomId) ?? []
    const edus = Array.from(changes, ([user_id, typing]) => ({
      edu_type: "m.typing",
      content: { room_id: roomId, user_id, typing }
    }))
    for (const server of servers) if (server !== serverName) yield* peers.queueEdus(server, edus)
  })

  /** Handles typing of a user that another node has published. */
  const queueChange = ({ isOwn, roomId, userIds }: TypingUpdate & { readonly isOwn: boolean }) => {
    const before = sentTypists.get(roomId)?.users ?? new Set()
    const now = new Set(userIds.filter((userId) => serverNameOf(userId) === serverName))
    if (now.size > 0) sentTypists.set(roomId, { users: now, isOwn })
    else sentTypists.delete(roomId)
    if (!isOwn) return Effect.void
    const stopped = [...before.difference(now)].map((userId) => [userId, false] as const)
    const started = [...now.difference(before)].map((userId) => [userId, true] as const)
    return queueTyping(roomId, new Map([...stopped, ...started]))
  }

  let position = yield* stream.position
  const sendChanges = Effect.suspend(() => stream.changed(position)).pipe(
    Effect.andThen(Effect.suspend(() => stream.since(position))),
    Effect.tap((chunk) =>
      Effect.sync(() => {
        position = chunk.position
      })
    ),
    Effect.flatMap((chunk) =>
      Effect.forEach(
        chunk.updates.filter((update) => update._tag === "typing"),
        queueChange,
        { discard: true }
      )
    )
  )
  yield* keepRunning("Sending typing to other servers", sendChanges)

  const repeatAll = Effect.suspend(() =>
    Effect.forEach(
      [...sentTypists].filter(([, { isOwn }]) => isOwn),
      ([roomId, { users }]) => queueTyping(roomId, new Map(Array.from(users, (userId) => [userId, true]))),
      { discard: true }
    )
  )
  yield* periodically("Repeating typing to other servers", repeatInterval, repeatAll)
})

export const layer = Layer.effectDiscard(make)
