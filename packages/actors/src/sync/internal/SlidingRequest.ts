/**
 * The room configuration of a sliding sync request: the settings of all lists and subscriptions that match a room, combined.
 *
 * Source: "Room results" and "RequiredStateRequest" of MSC4186.
 */
import type {
  RequiredState,
  SlidingSubscription,
  SlidingSyncBody
} from "@greenroom/protocol/client-server/SlidingSyncApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { InvalidParam } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

/** How many events a timeline has at most. */
const maxTimeline = 100

/** How many lists and subscriptions a request has at most. The proposal allows 100 subscriptions; living clients send more. */
const maxLists = 100
const maxSubscriptions = 1_000

/** How many patterns of state a request has at most. Those that several lists or subscriptions share count once. */
const maxPatterns = 1_000

/** Errors: M_INVALID_PARAM for a request with too many lists or subscriptions, and for a range that ends before it begins. */
export const checkRequest = ({ lists, room_subscriptions }: SlidingSyncBody): Effect.Effect<void, InvalidParam> => {
  for (const [name, given, most] of [
    ["lists", lists, maxLists],
    ["room_subscriptions", room_subscriptions, maxSubscriptions]
  ] as const) {
    if (Object.keys(given ?? {}).length > most) {
      return Effect.fail(new InvalidParam({ error: `${name}: at most ${most}` }))
    }
  }
  for (const [name, { range, ranges }] of Object.entries(lists ?? {})) {
    const reversed = (ranges ?? [range ?? [0, 0]]).find(([from, to]) => from > to)
    if (reversed !== undefined) {
      return Effect.fail(new InvalidParam({ error: `lists.${name}: the range [${reversed}] ends before it begins` }))
    }
  }
  return Effect.void
}

/** A type and a state key; null stands for any. */
type StatePattern = readonly [type: string | null, stateKey: string | null]

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

/** Patterns, so that a key of the state is looked up however many there are. */
interface CompiledPatterns {
  readonly keys: ReadonlySet<string>
  readonly types: ReadonlySet<string>
  readonly keysOfAnyType: ReadonlySet<string>
  readonly anything: boolean
}

const compiledPatterns = new WeakMap<ReadonlyArray<StatePattern>, CompiledPatterns>()

const compile = (patterns: ReadonlyArray<StatePattern>): CompiledPatterns => {
  const known = compiledPatterns.get(patterns)
  if (known !== undefined) return known
  const [keys, types, keysOfAnyType] = [new Set<string>(), new Set<string>(), new Set<string>()]
  let anything = false
  for (const [type, stateKey] of patterns) {
    if (type === null && stateKey === null) anything = true
    else if (type === null) keysOfAnyType.add(stateKey!)
    else if (stateKey === null) types.add(type)
    else keys.add(`${type}\0${stateKey}`)
  }
  const compiled = { keys, types, keysOfAnyType, anything }
  compiledPatterns.set(patterns, compiled)
  return compiled
}

/** Whether one of the patterns matches; with `isNamed`, one that names the type. */
const matchesOne = (patterns: ReadonlyArray<StatePattern>, type: string, stateKey: string, isNamed: boolean) => {
  const { anything, keys, keysOfAnyType, types } = compile(patterns)
  if (types.has(type) || keys.has(`${type}\0${stateKey}`)) return true
  return !isNamed && (anything || keysOfAnyType.has(stateKey))
}

/** Whether a config wants a key of the state. With lazy members, only patterns that name their type match members. */
export const wantsState = ({ lazyMembers, sets }: RoomConfig, type: string, stateKey: string): boolean =>
  sets.some(
    ({ exclude, include }) =>
      matchesOne(include, type, stateKey, lazyMembers && type === member) && !matchesOne(exclude, type, stateKey, false)
  )

/** The keys of the state that a config wants: single keys, all keys of some types, or any. */
interface StateSources {
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

/** The union of two configurations whose equal sets are the same object. */
const union = (a: RoomConfig, b: RoomConfig): RoomConfig => ({
  timelineLimit: Math.max(a.timelineLimit, b.timelineLimit),
  lazyMembers: a.lazyMembers || b.lazyMembers,
  sets: [...a.sets, ...b.sets.filter((set) => !a.sets.includes(set))]
})

/** The configurations of one request. Equal ones are one object, so thousands of rooms are compared by identity. */
interface RoomConfigs {
  /** The settings of one list or subscription. Errors: M_INVALID_PARAM if the request asks for too much state. */
  readonly read: (subscription: SlidingSubscription) => Effect.Effect<RoomConfig, InvalidParam>
  /** The union of two configurations. */
  readonly combine: (a: RoomConfig | undefined, b: RoomConfig) => RoomConfig
}

export const makeRoomConfigs = (userId: UserId): RoomConfigs => {
  const sets = new Map<string, PatternSet>()
  const configs = new Map<string, RoomConfig>()
  const unions = new Map<RoomConfig, Map<RoomConfig, RoomConfig>>()
  let patternCount = 0

  const sharedSet = (set: PatternSet): PatternSet => {
    const text = JSON.stringify(set)
    const known = sets.get(text)
    if (known !== undefined) return known
    patternCount += set.include.length + set.exclude.length
    sets.set(text, set)
    return set
  }

  const sharedConfig = (config: RoomConfig): RoomConfig => {
    const text = JSON.stringify(config)
    const known = configs.get(text)
    if (known !== undefined) return known
    configs.set(text, config)
    return config
  }

  return {
    read: ({ required_state, timeline_limit }) =>
      Effect.suspend(() => {
        const required = requiredOf(required_state, userId)
        const config = sharedConfig({
          timelineLimit: Math.min(timeline_limit ?? 0, maxTimeline),
          lazyMembers: required.lazyMembers,
          sets: required.sets.map(sharedSet)
        })
        return patternCount <= maxPatterns
          ? Effect.succeed(config)
          : Effect.fail(new InvalidParam({ error: `required_state: at most ${maxPatterns} elements in all` }))
      }),
    combine: (a, b) => {
      if (a === undefined || a === b) return b
      const known = unions.get(a)?.get(b)
      if (known !== undefined) return known
      const combined = union(a, b)
      unions.set(a, (unions.get(a) ?? new Map<RoomConfig, RoomConfig>()).set(b, combined))
      return combined
    }
  }
}
