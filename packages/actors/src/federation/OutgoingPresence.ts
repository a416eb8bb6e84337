/**
 * Sends the presence of local users to the servers that share a room with the user, and to those of observers whom the user
 * has accepted. Changes are collected for a few seconds, longer after they went to many servers, and sent once to each server,
 * whatever the number of rooms and users there. Activity alone is not sent. A user who enters a room is presented to its servers, and its
 * members to a server whose user enters it (`internal/PresenceIntroductions.ts`). The presence of users who are not offline is repeated:
 * Synapse takes users for offline of whom it has heard nothing for 30 minutes.
 *
 * A server that unpolls a user gets no presence of that user until it polls again.
 *
 * Source: "Presence" and "PDUs and EDUs" of the draft, "Presence" of the server-server specification.
 */
import { maxPresenceUsers, type PresencePush } from "@greenroom/protocol/federation/Edu"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { removeOldest } from "@greenroom/store/BoundedMap"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { beginning } from "@greenroom/store/StreamToken"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Layer } from "effect"
import {
  EphemeralStream,
  type EphemeralUpdate,
  type PresenceUpdate,
  type PresenceValue,
  toPresenceContent
} from "../presence/EphemeralStream.ts"
import type { PresenceContent } from "../presence/PresenceContent.ts"
import { Presences } from "../presence/Presences.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { makePresenceIntroductions } from "./internal/PresenceIntroductions.ts"
import { makePresenceVisibility } from "./internal/PresenceVisibility.ts"
import { inPortions } from "./internal/RoomPace.ts"
import { Peers } from "./Peers.ts"

/** For how long changes are collected, in ms: the longer, the more servers the last ones went to. */
const shortestInterval = 2_000
const longestInterval = 10_000
const intervalPerServer = 10

/** How often presence is repeated. */
const repeatInterval = "15 minutes"

/** How many unpolled users are remembered, of all servers together; the oldest are sent again. */
const maxUnpolled = 100_000

/** The presence of a user as a server receives it. Today's have no `free_for_chat`. Profiles travel with memberships. */
export const toPush = (content: PresenceContent): PresencePush => {
  const state = content.state === "hidden" ? "offline" : (content.state as PresencePush["state"])
  const presence = state === "free_for_chat" ? "online" : state
  return {
    user_id: content.user_id,
    state,
    presence,
    ...(content.status_msg === undefined ? {} : { status_msg: content.status_msg }),
    ...(content.last_active_ago === undefined ? {} : { last_active_ago: Math.round(content.last_active_ago) }),
    ...(presence === "online" ? { currently_active: true } : {})
  }
}

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const { serverName } = yield* HomeServerConfig
  const stream = yield* EphemeralStream
  const rooms = yield* RoomStore
  const roomServers = yield* RoomServerStore
  const lists = yield* PresenceListStore
  const presences = yield* Presences
  const peers = yield* Peers
  const visible = yield* makePresenceVisibility
  const unpolled = new Set<string>()

  const queuePushes = Effect.fnUntraced(function* (destination: ServerName, pushes: ReadonlyArray<PresencePush>) {
    for (let start = 0; start < pushes.length; start += maxPresenceUsers) {
      const push = pushes.slice(start, start + maxPresenceUsers) as unknown as ReadonlyArray<JsonObject>
      yield* peers.queueEdus(destination, [{ edu_type: "m.presence", content: { push } }])
    }
  })

  // Changes

  /** The servers that receive the presence of each of the users. */
  const audiences = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>) {
    const roomsOf = yield* rooms.joinedRoomsOfAll(userIds)
    const [serversOf, observersOf] = yield* Effect.all(
      [roomServers.serversOf([...new Set([...roomsOf.values()].flat())]), lists.observersOfAll(userIds)],
      { concurrency: 2 }
    )
    return (userId: UserId): ReadonlySet<ServerName> => {
      const audience = new Set((observersOf.get(userId) ?? []).map(serverNameOf))
      for (const roomId of roomsOf.get(userId) ?? []) {
        for (const server of serversOf.get(roomId) ?? []) audience.add(server)
      }
      audience.delete(serverName)
      return audience
    }
  })

  const changesOf = (updates: ReadonlyArray<EphemeralUpdate>): ReadonlyMap<UserId, PresenceValue> => {
    const changes = new Map<UserId, PresenceValue>()
    for (const update of updates) {
      if (!update.isOwn || update._tag !== "presence" || update.audience === "self") continue
      if (serverNameOf(update.userId) === serverName) changes.set(update.userId, update.value)
    }
    return changes
  }

  /** The users of ours who entered rooms, with the servers there. */
  const entrancesIn = Effect.fnUntraced(function* (updates: ReadonlyArray<EphemeralUpdate>) {
    const entrances = updates.flatMap((update) =>
      update._tag === "entrance" && update.isOwn && serverNameOf(update.userId) === serverName ? [update] : []
    )
    if (entrances.length === 0) return []
    const serversOf = yield* roomServers.serversOf([...new Set(entrances.map(({ roomId }) => roomId))])
    return entrances.map(({ roomId, value }) => ({ value, servers: serversOf.get(roomId) ?? [] }))
  })

  /** Adds presence for the servers, except those that do not want it. */
  const addTo = (
    pushes: Map<ServerName, Array<PresencePush>>,
    servers: Iterable<ServerName>,
    content: PresenceContent
  ): void => {
    const push = toPush(content)
    for (const server of servers) {
      if (server === serverName || unpolled.has(`${server} ${content.user_id}`)) continue
      const known = pushes.get(server)
      if (known === undefined) pushes.set(server, [push])
      else known.push(push)
    }
  }

  /** Presence by the servers that receive it. */
  const byServer = Effect.fnUntraced(function* (contents: ReadonlyArray<PresenceContent>) {
    const pushes = new Map<ServerName, Array<PresencePush>>()
    if (contents.length === 0) return pushes
    const audienceOf = yield* audiences(contents.map(({ user_id }) => user_id))
    for (const content of contents) addTo(pushes, audienceOf(content.user_id), content)
    return pushes
  })

  let interval = shortestInterval
  const queueChanges = Effect.fnUntraced(function* (updates: ReadonlyArray<EphemeralUpdate>) {
    const changes = changesOf(updates)
    const entrances = yield* entrancesIn(updates)
    if (changes.size === 0 && entrances.length === 0) return
    const now = yield* Clock.currentTimeMillis
    const pushes = yield* byServer(Array.from(changes.values(), (value) => toPresenceContent(value, now)))
    for (const { servers, value } of entrances) addTo(pushes, servers, toPresenceContent(value, now))
    interval = Math.min(longestInterval, Math.max(shortestInterval, pushes.size * intervalPerServer))
    yield* inPortions(pushes, ([server, push]) => queuePushes(server, push))
  })

  let position = yield* stream.position
  const sendChanges = Effect.suspend(() => stream.changed(position)).pipe(
    Effect.andThen(Effect.suspend(() => Effect.sleep(interval))),
    Effect.andThen(Effect.suspend(() => stream.since(position))),
    Effect.tap((chunk) =>
      Effect.sync(() => {
        position = chunk.position
      })
    ),
    Effect.flatMap((chunk) => queueChanges(chunk.updates))
  )
  yield* keepRunning("Sending presence to other servers", sendChanges)

  // Repetition

  /** The presence of a user of ours that others see as not offline. */
  const isPresent = ({ audience, userId, value }: PresenceUpdate): boolean =>
    audience !== "self" && value.state !== "offline" && serverNameOf(userId) === serverName

  const repeat = Effect.gen(function* () {
    const { updates } = yield* stream.since(beginning)
    const userIds = updates
      .filter((update) => update._tag === "presence")
      .filter(isPresent)
      .map(({ userId }) => userId)
    if (userIds.length === 0) return
    const pushes = yield* byServer(yield* presences.many(userIds))
    yield* Effect.forkIn(
      inPortions(pushes, ([server, push]) => queuePushes(server, push)),
      scope
    )
  })
  yield* periodicallyOnce("Repeating presence to other servers", repeatInterval, repeat)

  // Introductions

  const isPresentHere = (userId: UserId): boolean => {
    const value = stream.ownPresence(userId)
    return value !== undefined && value.state !== "offline"
  }
  yield* makePresenceIntroductions(isPresentHere, (destination, userIds) =>
    Effect.flatMap(presences.many(userIds.filter((userId) => !unpolled.has(`${destination} ${userId}`))), (contents) =>
      queuePushes(destination, contents.map(toPush))
    )
  )

  // Polls

  const poll = Effect.fnUntraced(function* (origin: ServerName, userIds: ReadonlyArray<UserId>) {
    for (const userId of userIds) unpolled.delete(`${origin} ${userId}`)
    const ours = userIds.filter((userId) => serverNameOf(userId) === serverName)
    const allowed = yield* visible(origin, ours)
    if (allowed.size === 0) return
    yield* queuePushes(origin, (yield* presences.many([...allowed])).map(toPush))
  })

  const unpoll = (origin: ServerName, userIds: ReadonlyArray<UserId>) =>
    Effect.sync(() => {
      for (const userId of userIds) {
        if (serverNameOf(userId) !== serverName) continue
        unpolled.add(`${origin} ${userId}`)
        if (unpolled.size > maxUnpolled) removeOldest(unpolled)
      }
    })

  return OutgoingPresence.of({ poll, unpoll })
})

/** Sends the presence of local users to other servers. */
export class OutgoingPresence extends Context.Service<
  OutgoingPresence,
  {
    /** A server subscribes to these users: the presence of those whom its users may see is sent at once, and on change. */
    readonly poll: (origin: ServerName, userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
    /** A server unsubscribes from these users. */
    readonly unpoll: (origin: ServerName, userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
  }
>()("greenroom/actors/federation/OutgoingPresence") {
  static readonly layer = Layer.effect(OutgoingPresence, make)
}
