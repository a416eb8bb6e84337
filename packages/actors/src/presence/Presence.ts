/**
 * The Presence actor: one per user, its key is the user ID. It owns the user's presence, merged from all devices and the
 * user's choice, and publishes it to the ephemeral stream when it changes. `PresenceRules` has the rules.
 *
 * The nodes keep the connections of their devices and report them (`DeviceConnections`); an answer says when the presence
 * will change by itself, and the node asks again then. So an actor needs no timers, can be passivated between two reports,
 * and loses nothing by it. In a cluster it stays in memory while its user is active, as each node reports its own devices
 * alone; a new actor waits for the reports of all nodes (`gatherTime`) before it takes the user for less available than was
 * published. Written to the store at these times: when the user chooses, when a choice ends, when the user turns
 * unavailable or offline, and when others see that the user is not offline any more, which a later start has to know. Never on
 * activity.
 *
 * Source: "Presence" of the draft and of the client-server specification.
 */
import type { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { PresenceStore } from "@greenroom/store/PresenceStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { Clock, Duration, Effect, Layer, Option } from "effect"
import { Entity } from "effect/cluster"
import { madeWith } from "../runtime/ActorContext.ts"
import { addressOfNode, Nodes } from "../runtime/Nodes.ts"
import { EphemeralStream, isSamePresence, type PresenceValue } from "./EphemeralStream.ts"
import { type NodeReport, Presence } from "./PresenceProtocol.ts"
import { type Choice, type DeviceReport, type MergedPresence, mergePresence } from "./PresenceRules.ts"

/** The times of the `Presence` actor. */
export interface PresenceOptions {
  /** How long an idle user stays online (default 5 minutes). */
  readonly idleAfter?: Duration.Input
}

const defaultIdleAfter = Duration.minutes(5)

/**
 * How long a new actor waits for the reports of all nodes, in ms, and an old one for those of nodes whose last report is as
 * old as the user's last activity.
 */
const gatherTime = 10_000

/** The order of states by how available the user is. */
const availability: { readonly [state: string]: number } = { offline: 0, unavailable: 1, online: 2, free_for_chat: 3 }

// --- State ------------------------------------------------------------------------------------------------------------

interface State {
  /** The devices by node. */
  readonly reports: Map<string, ReadonlyArray<DeviceReport>>
  state: PresenceState
  /** The state in the store. */
  stored: PresenceState
  choice: Choice | undefined
  statusMessage: string | undefined
  lastActiveAt: number | undefined
  profile: Pick<PresenceValue, "displayname" | "avatar_url">
}

/** As the user sees it. */
const ownValue = (userId: UserId, state: State): PresenceValue => ({
  user_id: userId,
  state: state.state,
  presence: state.state,
  ...state.profile,
  ...(state.statusMessage === undefined ? {} : { status_msg: state.statusMessage }),
  ...(state.lastActiveAt === undefined ? {} : { last_active_at: state.lastActiveAt })
})

/** Whether others see a user in this state as offline. */
const looksOffline = (state: string): boolean => state === "hidden" || state === "offline"

/** As others see it: hidden users look exactly like offline users, and neither show a status message. */
const othersValue = (own: PresenceValue): PresenceValue => {
  if (!looksOffline(own.state)) return own
  const { status_msg: _, ...rest } = own
  return { ...rest, state: "offline", presence: "offline" }
}

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.fnUntraced(function* (options: PresenceOptions) {
  const userId = (yield* Entity.CurrentAddress).entityId as unknown as UserId
  const store = yield* PresenceStore
  const profiles = yield* ProfileStore
  const stream = yield* EphemeralStream
  const nodes = yield* Nodes
  const idleAfter = Duration.toMillis(options.idleAfter ?? defaultIdleAfter)
  /** The time until which the state does not become less available, as reports of other nodes may be missing. */
  let gatheringUntil = nodes.isCluster ? (yield* Clock.currentTimeMillis) + gatherTime : 0

  const mergedAt = (now: number): MergedPresence =>
    mergePresence(
      {
        devices: [...state.reports.values()].flat(),
        choice: state.choice,
        lastActiveAt: state.lastActiveAt,
        idleAfter
      },
      now
    )

  const loadProfile = Effect.map(profiles.publicProfile(userId), (profile) => {
    state.profile = profile
  })

  const load = Effect.gen(function* () {
    const row = Option.getOrUndefined(yield* store.get(userId))
    state.stored = row?.state ?? "offline"
    state.statusMessage = row?.status_msg
    state.lastActiveAt = row?.last_active_at
    if (row?.chosen_at !== undefined) state.choice = { state: row.state, at: row.chosen_at }
    const published = stream.presence(userId, userId)
    state.state =
      published === undefined ? mergedAt(yield* Clock.currentTimeMillis).state : (published.state as PresenceState)
    yield* loadProfile
  })

  const save = Effect.suspend(() => {
    state.stored = state.choice?.state ?? state.state
    return store.save(userId, {
      state: state.stored,
      status_msg: state.statusMessage,
      last_active_at: state.lastActiveAt,
      chosen_at: state.choice?.at
    })
  })

  /** Publishes changes. A choice is published even if it changes nothing, since clients wait for it; `hidden` shows only to the user. */
  const publish = (chosen: boolean) =>
    Effect.suspend(() => {
      const own = ownValue(userId, state)
      const others = othersValue(own)
      const othersKnow = isSamePresence(stream.presence(userId), others)
      if (state.state !== "hidden") {
        return !chosen && othersKnow && isSamePresence(stream.presence(userId, userId), others)
          ? Effect.void
          : stream.publishPresence(others)
      }
      if (!othersKnow) return stream.publishPresence(others, own)
      return isSamePresence(stream.presence(userId, userId), own) ? Effect.void : stream.publishOwnPresence(own)
    })

  /** Stores the report of a node. Lost nodes have no devices. */
  const take = ({ devices, node }: NodeReport) => {
    state.reports.set(node, devices)
    for (const other of state.reports.keys()) {
      const isReplaced = other !== node && nodes.isCluster && addressOfNode(other) === addressOfNode(node)
      if (isReplaced || !nodes.isAlive(other)) state.reports.delete(other)
    }
  }

  /**
   * Whether to wait before the user becomes less available. Other nodes report within moments: a new actor, and where the
   * user was idle here, the others at their time.
   */
  const mustGather = (merged: MergedPresence, now: number): boolean => {
    if (!nodes.isCluster || (availability[merged.state] ?? 0) >= (availability[state.state] ?? 0)) return false
    if (merged.state === "unavailable" && state.reports.size > 1 && gatheringUntil + idleAfter / 2 < now) {
      gatheringUntil = now + gatherTime / 5
    }
    return now < gatheringUntil
  }

  /** Applies the facts at `now`, saves the presence if it has to be stored, and publishes it if it changed. */
  const adopt = Effect.fnUntraced(function* (now: number, chosen: boolean) {
    const merged = mergedAt(now)
    if (!chosen && mustGather(merged, now)) return { until: gatheringUntil, idle: merged.idle }
    const rests = merged.state !== state.state && (merged.state === "unavailable" || merged.state === "offline")
    const choiceEnded = merged.choice !== state.choice
    state.state = merged.state
    state.choice = merged.choice
    state.lastActiveAt = merged.lastActiveAt
    const appears = looksOffline(state.stored) && !looksOffline(merged.state)
    if (chosen || rests || choiceEnded || appears) yield* save
    yield* publish(chosen)
    return { until: merged.until, idle: merged.idle }
  })

  const state: State = {
    reports: new Map(),
    state: "offline",
    stored: "offline",
    choice: undefined,
    statusMessage: undefined,
    lastActiveAt: undefined,
    profile: {}
  }
  yield* load

  return Presence.of({
    Choose: Effect.fnUntraced(function* ({ payload: { report, state: chosen, status_msg } }) {
      const now = yield* Clock.currentTimeMillis
      take(report)
      state.lastActiveAt = mergedAt(now).lastActiveAt
      state.choice = { state: chosen, at: now }
      state.statusMessage = status_msg
      if (chosen !== "hidden") state.lastActiveAt = now
      return yield* adopt(now, true)
    }),
    Report: Effect.fnUntraced(function* ({ payload }) {
      take(payload)
      return yield* adopt(yield* Clock.currentTimeMillis, false)
    }),
    Announce: () =>
      Effect.andThen(
        loadProfile,
        Effect.suspend(() => {
          const own = ownValue(userId, state)
          return state.state === "hidden"
            ? stream.publishPresence(othersValue(own), own)
            : stream.publishPresence(othersValue(own))
        })
      ),
    Own: () => Effect.sync(() => ownValue(userId, state)),
    Forget: Effect.fnUntraced(function* () {
      yield* store.remove(userId)
      const nothing = { state: "offline", stored: "offline", choice: undefined, statusMessage: undefined, profile: {} }
      Object.assign(state, nothing)
      state.reports.clear()
      yield* publish(false)
    })
  })
})

/**
 * Registers the actor with the runner. Every connected user has one, which seldom gets a message: it does not
 * stay in memory meanwhile. A defect restarts it from the store, and the message is tried again.
 */
export const layer = (options: PresenceOptions = {}) =>
  Layer.unwrap(
    Effect.map(Nodes, ({ isCluster }) => {
      const idleAfter = Duration.toMillis(options.idleAfter ?? defaultIdleAfter)
      return Presence.toLayer(behaviour(options), { maxIdleTime: isCluster ? 2 * idleAfter : "2 seconds" }).pipe(
        madeWith(EphemeralStream, Nodes, PresenceStore, ProfileStore)
      )
    })
  )
