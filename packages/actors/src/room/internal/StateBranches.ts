/**
 * The states that a room compares, in memory: each as its changes of a base that all of them come from. While the
 * graph is a line there is nothing here; where it forks, comparing costs what the forks have changed and not what the
 * room holds.
 */
import type { StateId, StateRef } from "@greenroom/store/StateStore"

/** The value of a key in a state. */
export type StateValue = StateId | undefined

/** The changes of a state against another, by state key. */
export type StateChanges = ReadonlyMap<string, StateValue>

export const noChanges: StateChanges = new Map()

export const sameRef = (a: StateRef | undefined, b: StateRef | undefined): boolean =>
  a?.chain === b?.chain && a?.seq === b?.seq

/** A name of a state, for sets and maps. */
export const nameOf = ({ chain, seq }: StateRef): string => `${chain}/${seq}`

/** How many states are kept beside those that are needed, for events that fork at the same place. */
const keptStates = 16

export class StateBranches {
  /** Undefined while no states are compared. */
  base: StateRef | undefined
  /** The one that was used last stands last. */
  private readonly changes = new Map<string, StateChanges>()
  private readonly values = new Map<string, StateValue>()

  clear(): void {
    if (this.base === undefined) return
    this.base = undefined
    this.changes.clear()
    this.values.clear()
  }

  /** Forgets all states, and begins with another base. */
  begin(base: StateRef): void {
    this.clear()
    this.base = base
    this.changes.set(nameOf(base), noChanges)
  }

  /** The changes of a state against the base, if they are known. */
  of(ref: StateRef): StateChanges | undefined {
    const name = nameOf(ref)
    const found = this.changes.get(name)
    if (found !== undefined) {
      this.changes.delete(name)
      this.changes.set(name, found)
    }
    return found
  }

  add(ref: StateRef, changes: StateChanges): void {
    this.changes.set(nameOf(ref), changes)
  }

  /** Defines a state as another one with some changes. */
  extend(from: StateRef, to: StateRef, changes: Iterable<readonly [key: string, value: StateValue]>): void {
    const known = this.changes.get(nameOf(from))
    if (known !== undefined) this.changes.set(nameOf(to), new Map([...known, ...changes]))
  }

  /** The base's value of a key that the current state changes. */
  atBase(key: string): StateValue {
    return this.values.get(key)
  }

  knowsAtBase(key: string): boolean {
    return this.values.has(key)
  }

  setAtBase(key: string, value: StateValue): void {
    this.values.set(key, value)
  }

  /** Forgets states beyond those that are needed and the latest. */
  retain(needed: Iterable<StateRef>): void {
    if (this.base === undefined) return
    const names = new Set(Array.from(needed, nameOf)).add(nameOf(this.base))
    let spare = this.changes.size - names.size - keptStates
    for (const name of this.changes.keys()) {
      if (spare <= 0) return
      if (names.has(name)) continue
      this.changes.delete(name)
      spare--
    }
  }
}
