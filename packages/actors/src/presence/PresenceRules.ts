/**
 * Combines the devices of a user and the user's choice into one presence. Pure: the `Presence` actor gives it facts and the
 * time.
 *
 * - Users connected to the event stream are `online`, others `offline`. Users who are connected, but did nothing on any
 *   device for `idleAfter`, are `unavailable` until the next activity.
 * - A client may say that its user is away (`set_presence=unavailable`). Where all connected ones do, the user is
 *   `unavailable`. Of a client that polls at several nodes the last poll counts.
 * - The draft lets each device report an idle timer and the server "take the highest reported time". Read here as the
 *   latest moment: the last activity of a user is the most recent one of any device.
 * - The user's choice has priority: `unavailable` and `offline` whatever the devices do, `online` and `free_for_chat` while
 *   not idle. A choice holds until the last device disconnects. Made without any connection, it holds for `idleAfter`
 *   and then longer only if a device has connected.
 * - `hidden` is offline to everybody else. A lost connection must not reveal a user, so only another choice ends it;
 *   what the user does meanwhile does not count as activity.
 *
 * Source: "Presence", "Idle Time" of the draft.
 */
import type { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import { Schema } from "effect"

/** A device as its node reports it. Times are milliseconds since 1970. */
export const DeviceReport = Schema.Struct({
  connected: Schema.Boolean,
  /** The client reports that its user is away. */
  away: Schema.optionalKey(Schema.Boolean),
  /** Its ID, and when its client said last whether its user is away. */
  device: Schema.optionalKey(Schema.String),
  said_at: Schema.optionalKey(Schema.Number),
  last_active_at: Schema.Number,
  /** When it was connected or disconnected last. */
  changed_at: Schema.Number
})
export type DeviceReport = typeof DeviceReport.Type

/** The state that the user chose, and when. */
export interface Choice {
  readonly state: PresenceState
  readonly at: number
}

/** What the presence of a user follows from. */
export interface PresenceFacts {
  readonly devices: ReadonlyArray<DeviceReport>
  readonly choice: Choice | undefined
  /** The last activity that is known from before. */
  readonly lastActiveAt: number | undefined
  /** How long a user without activity counts as active, in milliseconds. */
  readonly idleAfter: number
}

/** The presence that follows from the facts, and when it changes by itself. */
export interface MergedPresence {
  readonly state: PresenceState
  readonly lastActiveAt: number | undefined
  /** The choice, if it still holds. */
  readonly choice: Choice | undefined
  /** When the state changes by itself, if it will. */
  readonly until: number | undefined
  /** Whether the next activity changes the state. */
  readonly idle: boolean
}

const latest = (times: ReadonlyArray<number>): number | undefined =>
  times.length === 0 ? undefined : Math.max(...times)

const holds = (facts: PresenceFacts, choice: Choice, connected: boolean, now: number): boolean => {
  if (choice.state === "hidden" || connected) return true
  const disconnectedAt = latest(facts.devices.map((device) => device.changed_at))
  return (disconnectedAt === undefined || disconnectedAt < choice.at) && now < choice.at + facts.idleAfter
}

/** Whether the clients of all connected devices say that their user is away. */
const areAway = (devices: ReadonlyArray<DeviceReport>): boolean => {
  const connected = devices.filter((report) => report.connected)
  const isLast = ({ device, said_at = 0 }: DeviceReport) =>
    device === undefined || connected.every((other) => other.device !== device || (other.said_at ?? 0) <= said_at)
  return connected.filter(isLast).every(({ away }) => away === true)
}

/** The facts with no time after `now`: if the clock was put back, later times count as now. */
const notAfter = ({ choice, devices, idleAfter, lastActiveAt }: PresenceFacts, now: number): PresenceFacts => ({
  devices: devices.map((device) => ({
    ...device,
    last_active_at: Math.min(now, device.last_active_at),
    changed_at: Math.min(now, device.changed_at)
  })),
  choice: choice === undefined || choice.at <= now ? choice : { ...choice, at: now },
  lastActiveAt: lastActiveAt === undefined ? undefined : Math.min(now, lastActiveAt),
  idleAfter
})

/** The presence at `now` (milliseconds since 1970). */
export const mergePresence = (known: PresenceFacts, now: number): MergedPresence => {
  const facts = notAfter(known, now)
  const connected = facts.devices.some((device) => device.connected)
  const lastActiveAt = latest([
    ...facts.devices.map((device) => device.last_active_at),
    ...(facts.lastActiveAt === undefined ? [] : [facts.lastActiveAt])
  ])
  const choice = facts.choice && holds(facts, facts.choice, connected, now) ? facts.choice : undefined
  const rest = { lastActiveAt, choice, until: undefined, idle: false }
  if (choice?.state === "hidden") return { ...rest, state: "hidden", lastActiveAt: facts.lastActiveAt }
  if (!connected) {
    return choice === undefined
      ? { ...rest, state: "offline" }
      : { ...rest, state: choice.state, until: choice.at + facts.idleAfter }
  }
  if (choice?.state === "unavailable" || choice?.state === "offline") return { ...rest, state: choice.state }
  if (areAway(facts.devices)) return { ...rest, state: "unavailable", idle: true }
  const idleAt = (lastActiveAt ?? now) + facts.idleAfter
  return now >= idleAt
    ? { ...rest, state: "unavailable", idle: true }
    : { ...rest, state: choice?.state ?? "online", until: idleAt }
}
