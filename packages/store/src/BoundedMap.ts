/**
 * Maps and sets that remember a bounded number of entries in memory. They iterate in the order of insertion, so that their first entry is
 * the oldest. `MonotonicCache` is for values that are looked up and expire.
 */

type Entries = Map<unknown, unknown> | Set<unknown>

/**
 * Where the oldest entries of full maps are. A new iterator would pass all entries that were removed from the beginning of the map since V8
 * last copied its table: as many as the map has, for each entry that is added.
 */
const oldestOf = new WeakMap<Entries, Iterator<unknown>>()

/** Removes the oldest entry. */
export const removeOldest = (entries: Entries): void => {
  let next = oldestOf.get(entries)?.next()
  if (next === undefined || next.done === true) {
    const keys = entries.keys()
    oldestOf.set(entries, keys)
    next = keys.next()
  }
  entries.delete(next.value)
}

/** Sets an entry as the newest of the map. If the map then has more than `most` entries, the oldest is removed. */
export const setNewest = <Key, Value>(entries: Map<Key, Value>, key: Key, value: Value, most: number): void => {
  entries.delete(key)
  entries.set(key, value)
  if (entries.size > most) removeOldest(entries as Map<unknown, unknown>)
}
