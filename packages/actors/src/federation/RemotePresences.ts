/**
 * The presence of users of other servers whom our users may see. Their servers push it; missing presence is polled. The
 * profile is that of the newest membership. It goes to the ephemeral stream, from which clients and `Presences` have it like
 * that of our users.
 *
 * A server that has been silent for a while is polled for its users that are online. They count as offline if it cannot be reached,
 * or stays silent for longer: Synapse repeats presence every 25 minutes, and does not know polls.
 *
 * Source: "Presence" and "PDUs and EDUs" of the draft, "Presence" of the server-server specification.
 */
import { maxPresenceUsers, type PresencePush } from "@greenroom/protocol/federation/Edu"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { ProfileStore, type PublicProfile, profileOfMember } from "@greenroom/store/ProfileStore"
import { periodically } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Layer } from "effect"
import { EphemeralStream, isSamePresence, type PresenceValue } from "../presence/EphemeralStream.ts"
import { RemotePresenceLookup } from "../presence/RemotePresenceLookup.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Destinations } from "./Destinations.ts"
import { FederationClient } from "./FederationClient.ts"
import { makePresenceVisibility } from "./internal/PresenceVisibility.ts"
import { Peers } from "./Peers.ts"

/** How long after a user was polled they are polled again at the earliest, in milliseconds. */
const pollInterval = 5 * 60_000

/** How many users are remembered as polled, and how many of those that somebody sees are polled at once: of more, the others come next. */
const maxPolled = 100_000
const maxPolledAtOnce = 5_000

/**
 * The time of silence after which a server is polled, and again; after which its users count as offline if it cannot be reached, and
 * in any case, in milliseconds.
 */
const pollAfter = 4 * 60_000
const staleAfter = 10 * 60_000
const lostAfter = 35 * 60_000

/** The interval between two checks for silent servers. */
const checkInterval = "1 minute"

/** The presence of how many users is published at once, to share a transaction of the database. */
const publishedAtOnce = 1_000

/** How long a request for one user's presence waits for the other server. */
const fetchTimeout = "5 seconds"

/** A server with users who are about. */
interface Watched {
  /** Times of the monotonic clock. */
  heardAt: number
  polledAt: number
  readonly users: Set<UserId>
}

const toValue = (push: PresencePush, profile: PublicProfile | undefined, now: number): PresenceValue => {
  const state = push.state === "hidden" ? "offline" : push.state
  return {
    user_id: push.user_id,
    state,
    presence: state,
    ...profile,
    ...(push.status_msg === undefined || state === "offline" ? {} : { status_msg: push.status_msg }),
    ...(push.last_active_ago === undefined ? {} : { last_active_at: now - push.last_active_ago })
  }
}

const forEachTogether = <A>(items: Iterable<A>, publish: (item: A) => Effect.Effect<void>): Effect.Effect<void> =>
  Effect.forEach(items, publish, { concurrency: publishedAtOnce, discard: true })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const stream = yield* EphemeralStream
  const peers = yield* Peers
  const destinations = yield* Destinations
  const client = yield* FederationClient
  const profiles = yield* ProfileStore
  const log = yield* EventLog
  const visible = yield* makePresenceVisibility
  const watched = new Map<ServerName, Watched>()
  const polled = new Map<UserId, number>()

  // Presence that other servers publish

  const watch = (userId: UserId, state: string, now: number) => {
    const server = serverNameOf(userId)
    const known = watched.get(server)
    if (state !== "offline") {
      if (known === undefined) watched.set(server, { heardAt: now, polledAt: now, users: new Set([userId]) })
      else known.users.add(userId)
    } else if (known?.users.delete(userId) === true && known.users.size === 0) watched.delete(server)
  }

  const publish = (value: PresenceValue) =>
    Effect.flatMap(monotonicMillis, (now) => {
      watch(value.user_id, value.state, now)
      return isSamePresence(stream.presence(value.user_id), value) ? Effect.void : stream.publishPresence(value)
    })

  const receive = Effect.fnUntraced(function* (pushes: ReadonlyArray<PresencePush>) {
    if (pushes.length === 0) return
    const wanted = yield* visible(
      serverName,
      pushes.map((push) => push.user_id)
    )
    const memberProfiles = yield* profiles.memberProfiles(wanted)
    const now = yield* Clock.currentTimeMillis
    // The last push of a user counts: those before it are not published beside it.
    const last = new Map(pushes.map((push) => [push.user_id, push]))
    yield* forEachTogether(last.values(), (push) =>
      wanted.has(push.user_id) ? publish(toValue(push, memberProfiles.get(push.user_id), now)) : Effect.void
    )
  })

  // Presence carries the profile: a membership that changes it is news of the user's presence too.
  const renamed = (slice: LogSlice): ReadonlyArray<PresenceValue> =>
    slice.events.flatMap(({ event: { content, state_key, type } }) => {
      if (type !== "m.room.member" || content.membership !== "join") return []
      const known = stream.presence(state_key as UserId)
      if (known === undefined || serverNameOf(known.user_id) === serverName) return []
      const { avatar_url: _, displayname: __, ...rest } = known
      const value = { ...rest, ...profileOfMember(content) }
      return isSamePresence(known, value) ? [] : [value]
    })
  // The log waits for its consumers, and publishing waits for the log.
  const scope = yield* Effect.scope
  yield* log.follow((slice) => {
    const values = renamed(slice)
    return values.length === 0
      ? Effect.void
      : Effect.asVoid(
          Effect.forkIn(
            forEachTogether(values, (value) => stream.publishPresence(value)),
            scope
          )
        )
  })

  // Polling

  const poll = Effect.fnUntraced(function* (server: ServerName, userIds: ReadonlyArray<UserId>) {
    for (let start = 0; start < userIds.length; start += maxPresenceUsers) {
      const content = { poll: userIds.slice(start, start + maxPresenceUsers) }
      yield* peers.queueEdus(server, [{ edu_type: "m.presence", content }])
    }
  })

  /** The users that were not polled lately. */
  const unpolled = (userIds: ReadonlyArray<UserId>, now: number): ReadonlyArray<UserId> => {
    const due: Array<UserId> = []
    for (const userId of userIds) {
      if (now - (polled.get(userId) ?? Number.NEGATIVE_INFINITY) < pollInterval) continue
      setNewest(polled, userId, now, maxPolled)
      if (due.push(userId) === maxPolledAtOnce) break
    }
    return due
  }

  const want = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>) {
    const absent = userIds.filter(
      (userId) => serverNameOf(userId) !== serverName && stream.presence(userId) === undefined
    )
    if (absent.length === 0) return
    const due = unpolled(absent, yield* monotonicMillis)
    for (const [server, users] of Map.groupBy(due, serverNameOf)) yield* poll(server, users)
  })

  const fetch = Effect.fnUntraced(function* (userId: UserId) {
    if (stream.presence(userId) !== undefined) return
    const push = yield* Effect.option(Effect.timeout(client.queryPresence(userId), fetchTimeout))
    const now = yield* Clock.currentTimeMillis
    if (push._tag === "Some" && push.value.user_id === userId)
      yield* publish(toValue(push.value, (yield* profiles.memberProfiles([userId])).get(userId), now))
  })

  // Silence

  const markOffline = Effect.fnUntraced(function* (server: ServerName, users: ReadonlySet<UserId>) {
    watched.delete(server)
    yield* forEachTogether(users, (userId) => {
      const { status_msg: _, ...last } = stream.presence(userId) ?? { user_id: userId }
      return stream.publishPresence({ ...last, state: "offline", presence: "offline" })
    })
  })

  const checkSilence = Effect.gen(function* () {
    const now = yield* monotonicMillis
    for (const [server, known] of watched) {
      const silence = now - known.heardAt
      const isLost = silence >= lostAfter || (silence >= staleAfter && !(yield* destinations.answers(server)))
      if (isLost) yield* markOffline(server, known.users)
      else if (silence >= pollAfter && now - known.polledAt >= pollAfter) {
        known.polledAt = now
        yield* poll(server, [...known.users])
      }
    }
  })

  yield* periodically("Checking for silent servers", checkInterval, checkSilence)

  const heardFrom = (server: ServerName) =>
    Effect.map(monotonicMillis, (now) => {
      const known = watched.get(server)
      if (known !== undefined) known.heardAt = now
    })

  return Context.make(RemotePresences, RemotePresences.of({ receive, want, heardFrom })).pipe(
    Context.add(RemotePresenceLookup, { want, fetch })
  )
})

/** The presence of users of other servers. */
export class RemotePresences extends Context.Service<
  RemotePresences,
  {
    /** Stores the presence that a server sends of its users. Users whom ours may not see are skipped. */
    readonly receive: (pushes: ReadonlyArray<PresencePush>) => Effect.Effect<void>
    /** These users are being viewed. Users of other servers without known presence are polled; does not wait. */
    readonly want: (userIds: ReadonlyArray<UserId>) => Effect.Effect<void>
    /** A server has made a request: the presence that it sent is still valid. */
    readonly heardFrom: (server: ServerName) => Effect.Effect<void>
  }
>()("greenroom/actors/federation/RemotePresences") {
  /** Also provides `RemotePresenceLookup`. */
  static readonly layer = Layer.effectContext(make)
}
