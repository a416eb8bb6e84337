/**
 * Maps that remember a bounded number of entries in memory. A `Map` iterates in the order of insertion, so its first entry is the
 * oldest. `MonotonicCache` is for values that are looked up and expire.
 */

/** Sets an entry as the newest of the map. If the map then has more than `most` entries, the oldest is removed. */
export const setNewest = <Key, Value>(entries: Map<Key, Value>, key: Key, value: Value, most: number): void => {
  entries.delete(key)
  entries.set(key, value)
  if (entries.size > most) entries.delete(entries.keys().next().value!)
}
