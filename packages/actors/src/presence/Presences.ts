/**
 * Presence of users. Changes are messages to the `Presence` actor of the user, which merges the devices. Reads are answered
 * from the ephemeral stream of this node and, for offline users, from the store.
 *
 * Source: "Presence" of the draft and of the client-server specification.
 */
import type { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { BadJson, Forbidden, type MatrixError, NotFound, TooLarge } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Clock, Context, Duration, Effect, Layer, Option } from "effect"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Nodes } from "../runtime/Nodes.ts"
import type { Session } from "../runtime/Session.ts"
import { DeviceConnections, hiddenFor } from "./DeviceConnections.ts"
import { EphemeralStream, type PresenceValue, toPresenceContent } from "./EphemeralStream.ts"
import { type HiddenDevice, makeHiddenDevices } from "./HiddenDevices.ts"
import { makeDeviceReports } from "./internal/DeviceReports.ts"
import { makeLastValues } from "./internal/LastValues.ts"
import type { PresenceContent } from "./PresenceContent.ts"
import { Presence } from "./PresenceProtocol.ts"
import { RemotePresenceLookup } from "./RemotePresenceLookup.ts"

export type { PresenceState } from "@greenroom/protocol/api/PresenceApi"

/** The times of `Presences`. */
export interface PresencesOptions {
  /** How long a device counts as connected after a poll ended without another one (default 30 seconds). */
  readonly grace?: Duration.Input
}

/** The longest status message, in UTF-16 code units. */
const maxStatusMessage = 1024

const make = Effect.fnUntraced(function* (options: PresencesOptions) {
  const actor = yield* Presence.client
  const nodes = yield* Nodes
  const stream = yield* EphemeralStream
  const rooms = yield* RoomStore
  const lists = yield* PresenceListStore
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const remotePresences = yield* RemotePresenceLookup
  const lastValues = yield* makeLastValues
  const grace = Duration.fromInputUnsafe(options.grace ?? "30 seconds")
  const devices = new DeviceConnections(Duration.toMillis(grace))
  const { reportDueNow, reportOf, reportOrRetry } = yield* makeDeviceReports(devices, grace)
  const clock = yield* Clock.Clock

  const exists = (userId: UserId) =>
    Effect.map(accounts.find(userId), (account) => Option.isSome(account) && account.value.deactivatedAt === undefined)

  const maySee = Effect.fnUntraced(function* (viewer: UserId, userId: UserId) {
    if (viewer === userId || (yield* lists.accepted(userId, viewer))) return true
    return yield* rooms.shareRoom(viewer, userId)
  })

  const checkStatusMessage = (text: string): Effect.Effect<void, MatrixError> => {
    if (!text.isWellFormed()) return Effect.fail(new BadJson({ error: "status_msg: not valid Unicode" }))
    return text.length <= maxStatusMessage
      ? Effect.void
      : Effect.fail(new TooLarge({ error: `status_msg: has more than ${maxStatusMessage} characters` }))
  }

  const set = Effect.fn("Presences.set")(function* (
    session: Session,
    userId: UserId,
    state: PresenceState,
    statusMessage?: string
  ) {
    if (session.userId !== userId) return yield* new Forbidden({ error: "You can only set your own presence" })
    if (statusMessage !== undefined) yield* checkStatusMessage(statusMessage)
    const now = yield* Clock.currentTimeMillis
    const outlook = yield* ask(
      actor(userId).Choose({ state, status_msg: statusMessage, report: reportOf(userId, now) })
    )
    devices.reported(userId, outlook, now)
  })

  const own = Effect.fn("Presences.own")(function* (userId: UserId) {
    yield* reportOrRetry(userId)
    const value = yield* ask(actor(userId).Own())
    return toPresenceContent(withActivity(value), yield* Clock.currentTimeMillis)
  })

  const get = Effect.fn("Presences.get")(function* (session: Session, userId: UserId) {
    if (userId === session.userId) return yield* own(userId)
    if (!(yield* maySee(session.userId, userId))) {
      if (serverNameOf(userId) === serverName && !(yield* exists(userId))) {
        return yield* new NotFound({ error: `There is no user ${userId}` })
      }
      return yield* new Forbidden({
        error: `You may see the presence of ${userId} after sharing a room or being accepted`
      })
    }
    if (serverNameOf(userId) !== serverName) yield* remotePresences.fetch(userId)
    const [content] = yield* manyContents([userId])
    return content!
  })

  /** Presence with this node's knowledge of the user's activity since it was published. An offline user's is unchanged. */
  const withActivity = (value: PresenceValue): PresenceValue => {
    const lastActiveAt = devices.lastActiveAt(value.user_id)
    return lastActiveAt === undefined || value.state === "offline" || value.state === "hidden"
      ? value
      : { ...value, last_active_at: Math.max(lastActiveAt, value.last_active_at ?? 0) }
  }

  const manyContents = Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, viewer?: UserId) {
    yield* remotePresences.want(userIds)
    const values = yield* lastValues(userIds, viewer)
    const now = yield* Clock.currentTimeMillis
    return values.map((value) => toPresenceContent(withActivity(value), now))
  })

  const about = Effect.fnUntraced(function* (userIds: Iterable<UserId>, viewer: UserId, withOffline = false) {
    const wanted = [...userIds]
    yield* remotePresences.want(wanted)
    const now = yield* Clock.currentTimeMillis
    return wanted.flatMap((userId) => {
      const value = stream.presence(userId, viewer)
      return value === undefined || (value.state === "offline" && !withOffline)
        ? []
        : [toPresenceContent(withActivity(value), now)]
    })
  })

  const withdrawAt = (userId: UserId, deviceId: string, now: number) => {
    if (devices.withdraw(userId, deviceId, now)) reportDueNow()
  }

  /** Takes an announcement of another node. */
  const takeAnnouncement = ({ deviceId, until, userId }: HiddenDevice) => {
    const now = clock.currentTimeMillisUnsafe()
    if (until > now) withdrawAt(userId, deviceId, now)
    else devices.reveal(userId, deviceId)
  }
  const announce = nodes.isCluster ? yield* makeHiddenDevices(takeAnnouncement) : () => Effect.void

  const connect = ({ deviceId, userId }: Session, away = false) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const wasHidden = devices.hiddenUntil(userId, deviceId) > now
      const published = stream.presence(userId, userId)
      const absence = published?.state === "unavailable" ? published : undefined
      if (devices.connect(userId, deviceId, now, away, absence)) reportDueNow()
      return wasHidden ? announce({ userId, deviceId, until: 0 }) : Effect.void
    })

  const disconnect = ({ deviceId, userId }: Session) =>
    Effect.map(Clock.currentTimeMillis, (now) => devices.disconnect(userId, deviceId, now))

  const withdraw = ({ deviceId, userId }: Session) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      // It is announced twice in the time for which it holds.
      const isKnown = devices.hiddenUntil(userId, deviceId) > now + hiddenFor / 2
      withdrawAt(userId, deviceId, now)
      return isKnown ? Effect.void : announce({ userId, deviceId, until: now + hiddenFor })
    })

  const active = ({ deviceId, userId }: Session) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      if (devices.active(userId, deviceId, now)) reportDueNow()
    })

  return {
    set,
    get,
    own,
    many: manyContents,
    about,
    connect,
    disconnect,
    withdraw,
    active,
    acceptedBy: (viewer: UserId) =>
      Effect.map(lists.list(viewer), (rows) => rows.filter(({ accepted }) => accepted).map(({ userId }) => userId)),
    announce: (userId: UserId) => Effect.orDie(actor(userId).Announce(undefined, { discard: true })),
    forget: (userId: UserId) =>
      Effect.andThen(
        Effect.sync(() => devices.forget(userId)),
        Effect.orDie(actor(userId).Forget())
      )
  }
})

/** The presence of users: set by their clients, read by those who may see it. */
export class Presences extends Context.Service<
  Presences,
  {
    /** The user alone. Without `statusMessage` the user has none. */
    readonly set: (
      session: Session,
      userId: UserId,
      state: PresenceState,
      statusMessage?: string
    ) => Effect.Effect<void, MatrixError>
    /** Callers: users who share a room with the user, or whom the user accepted. Errors: M_FORBIDDEN. */
    readonly get: (session: Session, userId: UserId) => Effect.Effect<PresenceContent, MatrixError>
    /** The user's own presence, with what the devices at this node do now. */
    readonly own: (userId: UserId) => Effect.Effect<PresenceContent, MatrixError>
    /**
     * The presence of several users at once, without checks: for callers that have checked. A hidden `viewer` sees their own
     * true presence.
     */
    readonly many: (userIds: ReadonlyArray<UserId>, viewer?: UserId) => Effect.Effect<ReadonlyArray<PresenceContent>>
    /**
     * The presence of several users who are online, as this node knows it; with `withOffline` also of users who went offline lately.
     * Costs no query. The caller has checked who may see the users.
     */
    readonly about: (
      userIds: Iterable<UserId>,
      viewer: UserId,
      withOffline?: boolean
    ) => Effect.Effect<ReadonlyArray<PresenceContent>>
    /** A poll or socket of the device opens. `away`: its client reports that its user is away. */
    readonly connect: (session: Session, away?: boolean) => Effect.Effect<void>
    /** A poll or socket of the device ends: it counts as connected for a grace period. */
    readonly disconnect: (session: Session) => Effect.Effect<void>
    /** The client polls without showing its user online (`set_presence=offline`): ends the presence that it showed before. */
    readonly withdraw: (session: Session) => Effect.Effect<void>
    /**
     * The user did something on this device: resets its idle timer, and shows the user online for a while, unless the client polls
     * with `set_presence=offline`. Cheap; never waits.
     */
    readonly active: (session: Session) => Effect.Effect<void>
    /**
     * The users whose presence the viewer may see because they accepted the viewer. Users who share a room with the viewer,
     * and the viewer, are not included.
     */
    readonly acceptedBy: (viewer: UserId) => Effect.Effect<ReadonlyArray<UserId>>
    /**
     * Publishes the user's presence again, because the profile or the set of observers changed. Returns at once.
     */
    readonly announce: (userId: UserId) => Effect.Effect<void>
    /** Removes the presence of a deactivated account. */
    readonly forget: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/actors/Presences") {
  static readonly layerWith = (options: PresencesOptions) => Layer.effect(Presences, make(options))
  static readonly layer = Presences.layerWith({})
}
