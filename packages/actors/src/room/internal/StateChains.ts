/**
 * The states of a room as its actor writes them: deltas of chains. A chain that outgrows the state is followed by one that
 * begins with a snapshot; where the graph forks, a chain of its own begins.
 *
 * `StateStore` has the chains in the database; docs/architecture.md, "State", shows them.
 */
import { maxChainHeight, type StateRef } from "@greenroom/store/StateStore"
import type { CurrentState } from "./CurrentState.ts"
import type { RoomStep } from "./RoomStep.ts"
import { StateBranches, type StateValue, sameRef } from "./StateBranches.ts"

/** Deltas that a chain may hold beyond the size of the state before a new chain with a snapshot follows it. */
const snapshotAfter = 1000

/** The last delta of a chain, and how many parents a read of it has to walk. */
export interface ChainEnd {
  readonly tip: number
  readonly height: number
}

type Changes = ReadonlyArray<readonly [key: string, value: StateValue]>

export class StateChains {
  private readonly roomNid: number
  private readonly current: CurrentState
  /** The current state as it is stored; undefined until the room begins. */
  ref: StateRef | undefined
  /** Other states than the current one, while the graph forks. */
  readonly branches = new StateBranches()
  /** The ends of the chains that may be continued; every other state is continued by a chain of its own. */
  private readonly ends = new Map<number, ChainEnd>()
  /** New numbers of events that were outliers, by their old numbers. */
  private readonly renumbered = new Map<number, number>()

  constructor(roomNid: number, current: CurrentState, ref: StateRef | undefined, ends: ReadonlyMap<number, ChainEnd>) {
    this.roomNid = roomNid
    this.current = current
    this.ref = ref
    this.noteEnds(ends)
  }

  /** Takes note of where chains end that were written before the room was opened. */
  noteEnds(ends: ReadonlyMap<number, ChainEnd>): void {
    for (const [chain, end] of ends) if (!this.ends.has(chain)) this.ends.set(chain, end)
  }

  knowsEnd(ref: StateRef): boolean {
    return this.ends.has(ref.chain)
  }

  /** A de-outliered event gets a new nid. */
  renumber(from: number, nid: number): void {
    this.renumbered.set(from, nid)
  }

  /** The number of an event that may have got another one. */
  numberNow(nid: number): number {
    return this.renumbered.get(nid) ?? nid
  }

  // Reading

  /** The value of a key in a state. `branches` must know the state, if it is not the current one. */
  valueAt(ref: StateRef, key: string): StateValue {
    const changes = sameRef(ref, this.ref) ? undefined : this.branches.of(ref)
    if (changes === undefined) return this.current.valueOf(key)
    return changes.has(key) ? changes.get(key) : this.valueAtBase(key)
  }

  /** The value of a key in the base of `branches`. */
  valueAtBase(key: string): StateValue {
    const isChanged = this.branches.of(this.ref!)?.has(key) ?? false
    return isChanged ? this.branches.atBase(key) : this.current.valueOf(key)
  }

  /** All of a state by the numbers of its events. */
  private wholeAt(ref: StateRef): ReadonlyMap<string, number> {
    const whole = this.current.nids()
    const apply = (key: string, value: StateValue) =>
      value === undefined ? whole.delete(key) : whole.set(key, value.nid)
    if (sameRef(ref, this.ref)) return whole
    for (const key of this.branches.of(this.ref!)?.keys() ?? []) apply(key, this.branches.atBase(key))
    for (const [key, value] of this.branches.of(ref) ?? []) apply(key, value)
    return whole
  }

  // Writing

  /** The first state of a room: that of the events in memory. */
  begin(step: RoomStep, newChain: () => number): StateRef {
    this.ref = this.beginChain(step, newChain(), this.current.nids())
    return this.ref
  }

  /**
   * The state that follows another by some changes: the next delta of its chain, or a chain of its own. Where that one is
   * not the current state, `branches` must know it.
   */
  advance(step: RoomStep, ref: StateRef, changes: Changes, newChain: () => number): StateRef {
    if (sameRef(ref, this.ref)) this.noteAtBase(ref, changes)
    const end = this.ends.get(ref.chain)
    const isTip = end?.tip === ref.seq
    const isLong = ref.seq > Math.max(snapshotAfter, 2 * this.current.size)
    if (isTip && !isLong) return this.delta(step, ref, { chain: ref.chain, seq: ref.seq + 1 }, changes, end.height)
    const height = (end?.height ?? maxChainHeight) + 1
    const chain = newChain()
    if (isTip || height > maxChainHeight) {
      const copy = this.beginChain(step, chain, this.wholeAt(ref), ref)
      return this.delta(step, copy, { chain, seq: 1 }, changes, 0)
    }
    step.chains.push({ chain, roomNid: this.roomNid, parent: ref, height })
    return this.delta(step, ref, { chain, seq: 1 }, changes, height)
  }

  /** A chain that begins with all of a state. */
  beginChain(step: RoomStep, chain: number, whole: ReadonlyMap<string, number>, equals?: StateRef): StateRef {
    const copied = equals === undefined ? {} : { equals }
    step.chains.push({ chain, roomNid: this.roomNid, parent: null, height: 0, ...copied })
    if (equals !== undefined) this.branches.extend(equals, { chain, seq: 0 }, [])
    this.continueChain(step, { chain, seq: 0 }, whole)
    this.ends.set(chain, { tip: 0, height: 0 })
    return { chain, seq: 0 }
  }

  /** More of the state with which a chain begins, where it is written in several steps. */
  continueChain(step: RoomStep, { chain, seq }: StateRef, part: Iterable<readonly [key: string, nid: number]>): void {
    for (const [key, nid] of part) step.deltas.push({ chain, seq, key, eventNid: this.numberNow(nid) })
  }

  private delta(step: RoomStep, from: StateRef, ref: StateRef, changes: Changes, height: number): StateRef {
    for (const [key, value] of changes) {
      step.deltas.push({ key, eventNid: value === undefined ? null : this.numberNow(value.nid), ...ref })
    }
    this.ends.set(ref.chain, { tip: ref.seq, height })
    this.branches.extend(from, ref, changes)
    return ref
  }

  /** Moves the changes of the current state into the base. */
  private noteAtBase(ref: StateRef, changes: Changes): void {
    const known = this.branches.of(ref)
    if (known === undefined) return
    for (const [key] of changes) if (!known.has(key)) this.branches.setAtBase(key, this.current.valueOf(key))
  }
}
