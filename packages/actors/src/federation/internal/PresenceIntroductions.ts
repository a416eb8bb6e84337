/**
 * Sends the presence of the members of a room to servers whose users enter it: Synapse does not poll. A server that enters again soon
 * has it already, or gets it with the next repetition.
 *
 * Source: "Presence" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { setNewest } from "@greenroom/store/BoundedMap"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Latch } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { inPortions } from "./RoomPace.ts"

/** For how long entrances are collected. */
const gatherTime = "2 seconds"

/** For how long a server that entered a room is not sent the presence of its members again, in ms, and how many are remembered. */
const introducedFor = 15 * 60_000
const maxIntroduced = 10_000

/** How many of our members of a room are presented at most. */
const maxMembers = 10_000

/** The user who enters a room by the event. */
const entrantOf = ({ content, state_key, type, unsigned }: Event): UserId | undefined => {
  if (type !== "m.room.member" || content.membership !== "join" || !isUserId(state_key)) return undefined
  const before = unsigned?.prev_content
  return isJsonObject(before) && before.membership === "join" ? undefined : state_key
}

/** `isPresent` says which of our users are not offline, `send` sends the presence of users. */
export const makePresenceIntroductions = Effect.fnUntraced(function* (
  isPresent: (userId: UserId) => boolean,
  send: (destination: ServerName, userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
) {
  const { serverName } = yield* HomeServerConfig
  const log = yield* EventLog
  const roomServers = yield* RoomServerStore
  const isEntered = Latch.makeUnsafe(false)
  /** The rooms that other servers have entered, by their numbers. */
  let entrances = new Map<ServerName, Set<number>>()
  /** When servers were sent the presence of the members of rooms. */
  const introduced = new Map<string, number>()

  yield* log.follow(({ events }) =>
    Effect.sync(() => {
      for (const { event, roomNid } of events) {
        const entrant = entrantOf(event)
        if (entrant === undefined || serverNameOf(entrant) === serverName) continue
        const server = serverNameOf(entrant)
        entrances.set(server, (entrances.get(server) ?? new Set()).add(roomNid))
        isEntered.openUnsafe()
      }
    })
  )

  /** True once in a while. */
  const isNew = (server: ServerName, roomNid: number, now: number): boolean => {
    const key = `${server} ${roomNid}`
    if (now - (introduced.get(key) ?? Number.NEGATIVE_INFINITY) < introducedFor) return false
    setNewest(introduced, key, now, maxIntroduced)
    return true
  }

  const membersOf = (roomNid: number) => roomServers.usersIn(roomNid, serverName, maxMembers)

  const introduce = Effect.gen(function* () {
    yield* isEntered.await
    yield* Effect.sleep(gatherTime)
    isEntered.closeUnsafe()
    const given = [...entrances]
    entrances = new Map()
    const now = yield* monotonicMillis
    const presentIn = new Map<number, ReadonlyArray<UserId>>()
    const members = new Map<ServerName, Set<UserId>>()
    for (const [server, roomNids] of given) {
      for (const roomNid of roomNids) {
        if (!isNew(server, roomNid, now)) continue
        const present = presentIn.get(roomNid) ?? (yield* membersOf(roomNid)).filter(isPresent)
        presentIn.set(roomNid, present)
        if (present.length > 0) members.set(server, (members.get(server) ?? new Set()).union(new Set(present)))
      }
    }
    yield* inPortions(members, ([server, userIds]) => send(server, [...userIds]))
  })
  yield* keepRunning("Sending presence to servers that enter rooms", introduce)
})
