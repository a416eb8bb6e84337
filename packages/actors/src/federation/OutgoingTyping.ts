/**
 * Sends typing notifications of our users to the other servers in the room: when a user starts and stops, and again from
 * time to time, because other servers end the typing of a user after a while without a repeat. In a room with many servers changes are
 * gathered for a while (`RoomPace`); one that was taken back by then is not sent.
 *
 * Source: "Typing notifications" and "PDUs and EDUs" of the draft, "Typing Notifications" of the server-server specification.
 */
import { type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { keepRunning, periodically } from "@greenroom/store/Supervision"
import { Effect, Layer, Queue } from "effect"
import { EphemeralStream, type TypingUpdate } from "../presence/EphemeralStream.ts"
import { makeDeadlines } from "../runtime/Deadlines.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { inPortions, roomInterval } from "./internal/RoomPace.ts"
import { Peers } from "./Peers.ts"

/** How often typing is repeated to other servers while it lasts. Shorter than `remoteTypingTimeout`. */
const repeatInterval = "20 seconds"

/** The time after which a user of another server stops typing, unless the server sends it again, in milliseconds. */
export const remoteTypingTimeout = 45_000

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const { serverName } = yield* HomeServerConfig
  const stream = yield* EphemeralStream
  const roomServers = yield* RoomServerStore
  const peers = yield* Peers
  const addDeadline = yield* makeDeadlines
  /** The typing users of this server as other servers know them, and whether this node has sent them. */
  const sentTypists = new Map<RoomId, { readonly users: ReadonlySet<UserId>; readonly isOwn: boolean }>()
  /** Rooms to which something was sent lately, and whether their typing users have changed since. */
  const resting = new Map<RoomId, { changed: boolean }>()
  const rested = yield* Queue.unbounded<RoomId>()

  /** Nothing further is sent to the room for a while. */
  const rest = Effect.fnUntraced(function* (roomId: RoomId, servers: number) {
    resting.set(roomId, { changed: false })
    addDeadline((yield* monotonicMillis) + roomInterval(servers), () => Queue.offerUnsafe(rested, roomId))
  })

  const queueTyping = Effect.fnUntraced(function* (roomId: RoomId, changes: ReadonlyMap<UserId, boolean>) {
    if (changes.size === 0) return
    const servers = (yield* roomServers.serversOf([roomId])).get(roomId) ?? []
    const edus = Array.from(changes, ([user_id, typing]) => ({
      edu_type: "m.typing",
      content: { room_id: roomId, user_id, typing }
    }))
    if (!resting.has(roomId)) yield* rest(roomId, servers.length)
    const others = servers.filter((server) => server !== serverName)
    yield* Effect.forkIn(
      inPortions(others, (server) => peers.queueEdus(server, edus)),
      scope
    )
  })

  /** Notes the typing users of this server, as other servers know them or are about to. Returns those from before. */
  const note = (roomId: RoomId, userIds: ReadonlyArray<UserId>, isOwn: boolean) => {
    const before: ReadonlySet<UserId> = sentTypists.get(roomId)?.users ?? new Set()
    const now = new Set(userIds.filter((userId) => serverNameOf(userId) === serverName))
    if (now.size > 0) sentTypists.set(roomId, { users: now, isOwn })
    else sentTypists.delete(roomId)
    return { before, now }
  }

  const queueChange = (roomId: RoomId, userIds: ReadonlyArray<UserId>) => {
    const { before, now } = note(roomId, userIds, true)
    const stopped = [...before.difference(now)].map((userId) => [userId, false] as const)
    const started = [...now.difference(before)].map((userId) => [userId, true] as const)
    return queueTyping(roomId, new Map([...stopped, ...started]))
  }

  /** Handles typing of a user, which this node or another one has published. */
  const take = ({ isOwn, roomId, userIds }: TypingUpdate & { readonly isOwn: boolean }) =>
    Effect.suspend(() => {
      const pause = resting.get(roomId)
      if (isOwn && pause === undefined) return queueChange(roomId, userIds)
      // The other node sends it.
      if (!isOwn) note(roomId, userIds, false)
      if (pause !== undefined) pause.changed = isOwn
      return Effect.void
    })

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
        take,
        { discard: true }
      )
    )
  )
  yield* keepRunning("Sending typing to other servers", sendChanges)

  const sendGathered = Effect.flatMap(Queue.take(rested), (roomId) => {
    const pause = resting.get(roomId)
    resting.delete(roomId)
    return pause?.changed === true ? queueChange(roomId, stream.typing(roomId)) : Effect.void
  })
  yield* keepRunning("Sending gathered typing to other servers", sendGathered)

  const repeatAll = Effect.suspend(() =>
    Effect.forEach(
      [...sentTypists].filter(([, { isOwn }]) => isOwn),
      ([roomId, { users }]) => {
        const lasting = new Set(stream.typing(roomId)).intersection(users)
        return queueTyping(roomId, new Map(Array.from(lasting, (userId) => [userId, true])))
      },
      { discard: true }
    )
  )
  yield* periodically("Repeating typing to other servers", repeatInterval, repeatAll)
})

export const layer = Layer.effectDiscard(make)
