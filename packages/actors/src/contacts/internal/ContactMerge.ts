/**
 * Merges imported cards: a card with the UID of a contact, or with one of its addresses, is merged into that contact. The
 * properties of both are kept, each once. For a property with a single value (such as BDAY) the imported value replaces the
 * former one; so does the name (FN) of a card with the same UID.
 */
import type { ContactAddress, NewContact, StoredContact } from "@greenroom/store/ContactStore"
import { addressesOf, type Card, checkCount, fromStored, type Property, toStored } from "./Card.ts"

/** Whether contacts are the same by their UID alone, or by their addresses too. */
export type MergeBy = "uid" | "addresses"

export interface MergePlan {
  readonly save: ReadonlyArray<NewContact>
  readonly remove: ReadonlyArray<string>
  readonly created: number
  readonly merged: number
  readonly unchanged: number
  /** The contact of the first card. */
  readonly first: string | undefined
}

interface Entry {
  readonly contactId: string
  readonly uid: string
  readonly properties: Map<string, Property>
  readonly addresses: Map<string, ContactAddress>
  /** The IDs of the merged cards. */
  readonly uids: Array<string>
  /** As it is stored, if it is. */
  readonly stored: string | undefined
  changed: boolean
}

const keyOf = ({ address, medium }: ContactAddress): string => `${medium}\n${address}`

const isName = (key: string): boolean => key.startsWith("fn\n")

const same = (a: Property | undefined, b: Property): boolean =>
  a !== undefined && JSON.stringify(a) === JSON.stringify(b)

/** Adds the properties of a card to those of a contact. */
const absorb = (entry: Entry, properties: ReadonlyMap<string, Property>, named: boolean): void => {
  if (named && ![...properties.keys()].some((key) => isName(key) && entry.properties.has(key))) {
    for (const key of entry.properties.keys()) if (isName(key)) entry.properties.delete(key)
  }
  for (const [key, property] of properties) {
    if (key === "uid" || key === "version" || same(entry.properties.get(key), property)) continue
    entry.properties.set(key, property)
    entry.changed = true
  }
  checkCount(entry.properties.size)
}

/** Yields after each card, so that many take many slices. */
export const planMerge = function* (
  known: ReadonlyArray<StoredContact>,
  cards: ReadonlyArray<Card>,
  by: MergeBy,
  newId: () => string
): Generator<void, MergePlan> {
  const entries = new Set<Entry>()
  const byUid = new Map<string, Entry>()
  const byAddress = new Map<string, Entry>()
  const removed: Array<string> = []
  let [created, merged, unchanged] = [0, 0, 0]
  let first: string | undefined

  const index = (entry: Entry): void => {
    entries.add(entry)
    byUid.set(entry.uid, entry)
    for (const key of entry.addresses.keys()) if (!byAddress.has(key)) byAddress.set(key, entry)
  }

  /** If a card shows that two contacts are the same, the older one is kept. */
  const join = (kept: Entry, other: Entry): void => {
    absorb(kept, other.properties, false)
    for (const [key, address] of other.addresses) {
      if (!kept.addresses.has(key)) kept.addresses.set(key, address)
      byAddress.set(key, kept)
    }
    for (const uid of other.uids) {
      kept.uids.push(uid)
      byUid.set(uid, kept)
    }
    kept.changed = true
    entries.delete(other)
    if (other.stored !== undefined) removed.push(other.contactId)
  }

  const matchesOf = (card: Card, addresses: ReadonlyArray<ContactAddress>): ReadonlyArray<Entry> => {
    const own = byUid.get(card.uid)
    if (by === "uid") return own === undefined ? [] : [own]
    const found = new Set(own === undefined ? [] : [own])
    for (const address of addresses) {
      const entry = byAddress.get(keyOf(address))
      if (entry !== undefined) found.add(entry)
    }
    return [...found]
  }

  for (const contact of known) {
    const addresses = new Map(contact.addresses.map((address) => [keyOf(address), address]))
    const { properties } = fromStored(contact.card)
    const { card, contactId, uid } = contact
    index({ contactId, uid, uids: [uid], stored: card, properties, addresses, changed: false })
    yield
  }

  for (const card of cards) {
    const addresses = addressesOf(card)
    const [target, ...others] = matchesOf(card, addresses)
    if (target === undefined) {
      const own = new Map(addresses.map((address) => [keyOf(address), address]))
      const contactId = newId()
      const { properties, uid } = card
      index({ contactId, uid, uids: [uid], stored: undefined, properties, addresses: own, changed: true })
      first ??= contactId
      created += 1
    } else {
      const before = target.changed
      target.changed = false
      for (const other of others) join(target, other)
      absorb(target, card.properties, byUid.get(card.uid) === target && target.uid === card.uid)
      for (const address of addresses) {
        const key = keyOf(address)
        if (!target.addresses.has(key)) target.addresses.set(key, address)
        byAddress.set(key, target)
      }
      if (!byUid.has(card.uid)) target.uids.push(card.uid)
      byUid.set(card.uid, target)
      first ??= target.contactId
      if (target.changed) merged += 1
      else unchanged += 1
      target.changed ||= before
    }
    yield
  }

  const save: Array<NewContact> = []
  for (const entry of entries) {
    if (!entry.changed) continue
    const saved = toStored(entry.contactId, entry, [...entry.addresses.values()])
    if (saved.card !== entry.stored) save.push(saved)
    yield
  }
  return { save, remove: removed, created, merged, unchanged, first }
}
