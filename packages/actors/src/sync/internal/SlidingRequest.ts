/**
 * The room configuration of a sliding sync request: the settings of all lists and subscriptions that match a room, combined.
 *
 * Source: "Room results" and "RequiredStateRequest" of MSC4186.
 */
import type { RequiredState, SlidingSubscription } from "@greenroom/protocol/client-server/SlidingSyncApi"
import type { UserId } from "@greenroom/protocol/Identifiers"

/** How many events a timeline has at most. */
const maxTimeline = 100

/** A type and a state key; null stands for any. */
export type StatePattern = readonly [type: string | null, stateKey: string | null]

interface PatternSet {
  readonly include: ReadonlyArray<StatePattern>
  readonly exclude: ReadonlyArray<StatePattern>
}

/** The parts of a room that are sent. Plain data, since its JSON is compared and stored. */
export interface RoomConfig {
  readonly timelineLimit: number
  /** Members are sent with the events that they have to do with. */
  readonly lazyMembers: boolean
  /** State that one of these sets matches. */
  readonly sets: ReadonlyArray<PatternSet>
}

const member = "m.room.member"

const matchesPattern = ([type, stateKey]: StatePattern, ofType: string, ofKey: string): boolean =>
  (type === null || type === ofType) && (stateKey === null || stateKey === ofKey)

/** Whether a config wants a key of the state. With lazy members, only patterns that name their type match members. */
export const wantsState = ({ lazyMembers, sets }: RoomConfig, type: string, stateKey: string): boolean =>
  sets.some(
    ({ exclude, include }) =>
      include.some(
        (pattern) => matchesPattern(pattern, type, stateKey) && !(lazyMembers && type === member && pattern[0] === null)
      ) && !exclude.some((pattern) => matchesPattern(pattern, type, stateKey))
  )

/** The keys of the state that a config wants: single keys, all keys of some types, or any. */
export interface StateSources {
  readonly keys: ReadonlyArray<readonly [type: string, stateKey: string]>
  readonly types: ReadonlyArray<string>
  readonly anywhere: boolean
}

export const sourcesOf = ({ sets }: RoomConfig): StateSources => {
  const keys: Array<readonly [string, string]> = []
  const types = new Set<string>()
  let anywhere = false
  for (const [type, stateKey] of sets.flatMap(({ include }) => include)) {
    if (type === null) anywhere = true
    else if (stateKey === null) types.add(type)
    else keys.push([type, stateKey])
  }
  return { keys, types: [...types], anywhere }
}

const wildcard = (text: string): string | null => (text === "*" ? null : text)

const fromPairs = (pairs: ReadonlyArray<readonly [string, string]>, userId: UserId) => {
  const include: Array<StatePattern> = []
  let lazyMembers = false
  for (const [type, stateKey] of pairs) {
    if (stateKey === "$LAZY") lazyMembers = lazyMembers || type === member
    else include.push([wildcard(type), stateKey === "$ME" ? userId : wildcard(stateKey)])
  }
  return { lazyMembers, sets: include.length === 0 ? [] : [{ include, exclude: [] }] }
}

const patterns = (
  elements: ReadonlyArray<{ readonly type?: string | null; readonly state_key?: string | null }> | null | undefined
): ReadonlyArray<StatePattern> => (elements ?? []).map(({ state_key, type }) => [type ?? null, state_key ?? null])

const isPairs = (required: RequiredState): required is Extract<RequiredState, ReadonlyArray<unknown>> =>
  Array.isArray(required)

const requiredOf = (required: RequiredState | null | undefined, userId: UserId) => {
  if (required == null) return { lazyMembers: false, sets: [] }
  if (isPairs(required)) return fromPairs(required, userId)
  const include = patterns(required.include)
  return {
    lazyMembers: required.lazy_members ?? false,
    sets: include.length === 0 ? [] : [{ include, exclude: patterns(required.exclude) }]
  }
}

/** The settings of one list or subscription. */
export const toConfig = ({ required_state, timeline_limit }: SlidingSubscription, userId: UserId): RoomConfig => ({
  timelineLimit: Math.min(timeline_limit ?? 0, maxTimeline),
  ...requiredOf(required_state, userId)
})

/** The union of the configurations. */
export const combine = (a: RoomConfig | undefined, b: RoomConfig): RoomConfig => {
  if (a === undefined || a === b) return b
  const seen = new Set(a.sets.map((set) => JSON.stringify(set)))
  return {
    timelineLimit: Math.max(a.timelineLimit, b.timelineLimit),
    lazyMembers: a.lazyMembers || b.lazyMembers,
    sets: [...a.sets, ...b.sets.filter((set) => !seen.has(JSON.stringify(set)))]
  }
}
