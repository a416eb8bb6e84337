/** Scenes: the events of one room of one version on two servers. */
import type { Pair } from "./Pair.ts"
import type { Person } from "./Person.ts"
import type { Pdu } from "./SignedJson.ts"

/** The names of users of `a`. Alice creates the rooms. */
export const namesOnA = ["alice", "andy", "anna"] as const
/** The names of users of `b`. */
export const namesOnB = ["bob", "ben", "bella", "bea", "carl", "dora", "zoe"] as const

export type People = { readonly [name in (typeof namesOnA)[number] | (typeof namesOnB)[number]]: Person }

export interface Stage {
  readonly pair: Pair
  readonly version: number
  readonly people: People
}

/** A forged event with the signature of `b`, sent to `a`. */
export interface Forgery {
  readonly name: string
  readonly event_id: string
  /** The event as it was sent. */
  readonly pdu: Pdu
  /** Why `a` refused it in its answer to the transaction. */
  readonly error?: string
}

export interface SceneResult {
  readonly room: string
  readonly forgeries?: ReadonlyArray<Forgery>
}

export interface Scene {
  readonly name: string
  /** The first and last room version of the scene. */
  readonly from?: number
  readonly to?: number
  /** Versions in between that are omitted. */
  readonly except?: ReadonlyArray<number>
  /** Runs the scene. It may end with a partition, so that `b` does not receive the forgeries in its name. */
  readonly run: (stage: Stage) => Promise<SceneResult>
}

/** Power levels of users. From version 12 on they do not include the creator. */
export const levelsOf = (
  { people, version }: Stage,
  levels: { readonly [name in keyof People]?: number }
): { readonly [userId: string]: number } =>
  Object.fromEntries(
    Object.entries(levels)
      .filter(([name]) => version < 12 || name !== "alice")
      .map(([name, level]) => [people[name as keyof People].id, level])
  )
