/**
 * A scene: the story of one room of one version on two servers.
 */
import type { Pair } from "./Pair.ts"
import type { Person } from "./Person.ts"
import type { Pdu } from "./SignedJson.ts"

/** Users of `a`, by name; alice makes the rooms. */
export const namesOnA = ["alice", "andy", "anna"] as const
/** Users of `b`, by name. */
export const namesOnB = ["bob", "ben", "bella", "bea", "carl", "dora", "zoe"] as const

export type People = { readonly [name in (typeof namesOnA)[number] | (typeof namesOnB)[number]]: Person }

export interface Stage {
  readonly pair: Pair
  readonly version: number
  readonly people: People
}

/** An event made by hand with the key of `b`, sent to `a`. */
export interface Forgery {
  /** The name of the forgery. */
  readonly name: string
  readonly event_id: string
  /** As it was sent. */
  readonly pdu: Pdu
  /** Why `a` refused it in its answer to the transaction. */
  readonly error?: string
}

export interface Played {
  readonly room: string
  readonly forgeries?: ReadonlyArray<Forgery>
}

export interface Scene {
  readonly name: string
  /** The first and last room version that has what this is about. */
  readonly from?: number
  readonly to?: number
  /** Versions between that are left out. */
  readonly except?: ReadonlyArray<number>
  /** May leave the two servers cut from each other, so that `b` does not hear of what it is said to have sent. */
  readonly play: (stage: Stage) => Promise<Played>
}

/** Levels of users. From version 12 on creators must not be among them. */
export const levelsOf = (
  { people, version }: Stage,
  levels: { readonly [name in keyof People]?: number }
): { readonly [userId: string]: number } =>
  Object.fromEntries(
    Object.entries(levels)
      .filter(([name]) => version < 12 || name !== "alice")
      .map(([name, level]) => [people[name as keyof People].id, level])
  )
