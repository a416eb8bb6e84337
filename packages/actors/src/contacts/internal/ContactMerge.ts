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

/** The contacts of an address book while cards are merged into it. */
class MergedBook {
  readonly entries = new Set<Entry>()
  /** The IDs of stored contacts that were merged into others. */
  readonly removed: Array<string> = []
  private readonly byUid = new Map<string, Entry>()
  private readonly byAddress = new Map<string, Entry>()

  add(entry: Omit<Entry, "addresses" | "uids">, addresses: ReadonlyArray<ContactAddress>): void {
    const byKey = new Map(addresses.map((address) => [keyOf(address), address]))
    const added = { ...entry, uids: [entry.uid], addresses: byKey }
    this.entries.add(added)
    this.byUid.set(added.uid, added)
    for (const key of byKey.keys()) if (!this.byAddress.has(key)) this.byAddress.set(key, added)
  }

  /** The contacts that are the same as a card. */
  matching(card: Card, addresses: ReadonlyArray<ContactAddress>, by: MergeBy): ReadonlyArray<Entry> {
    const own = this.byUid.get(card.uid)
    if (by === "uid") return own === undefined ? [] : [own]
    const found = new Set(own === undefined ? [] : [own])
    for (const address of addresses) {
      const entry = this.byAddress.get(keyOf(address))
      if (entry !== undefined) found.add(entry)
    }
    return [...found]
  }

  /** Merges a card into a contact that is the same. True if that changed the contact. */
  merge(target: Entry, card: Card, addresses: ReadonlyArray<ContactAddress>, others: ReadonlyArray<Entry>): boolean {
    const before = target.changed
    target.changed = false
    for (const other of others) this.join(target, other)
    absorb(target, card.properties, target.uid === card.uid && this.byUid.get(card.uid) === target)
    for (const address of addresses) this.addAddress(target, address)
    if (!this.byUid.has(card.uid)) target.uids.push(card.uid)
    this.byUid.set(card.uid, target)
    const isChanged = target.changed
    target.changed ||= before
    return isChanged
  }

  /** If a card shows that two contacts are the same, the older one is kept. */
  private join(kept: Entry, other: Entry): void {
    absorb(kept, other.properties, false)
    for (const address of other.addresses.values()) this.addAddress(kept, address)
    for (const uid of other.uids) {
      kept.uids.push(uid)
      this.byUid.set(uid, kept)
    }
    kept.changed = true
    this.entries.delete(other)
    if (other.stored !== undefined) this.removed.push(other.contactId)
  }

  private addAddress(entry: Entry, address: ContactAddress): void {
    const key = keyOf(address)
    if (!entry.addresses.has(key)) entry.addresses.set(key, address)
    this.byAddress.set(key, entry)
  }
}

/** Yields after each card, so that many take many slices. */
export const planMerge = function* (
  known: ReadonlyArray<StoredContact>,
  cards: ReadonlyArray<Card>,
  by: MergeBy,
  newId: () => string
): Generator<void, MergePlan> {
  const book = new MergedBook()
  let [created, merged, unchanged] = [0, 0, 0]
  let first: string | undefined
  for (const { addresses, card, contactId, uid } of known) {
    const { properties } = fromStored(card)
    book.add({ contactId, uid, stored: card, properties, changed: false }, addresses)
    yield
  }
  for (const card of cards) {
    const addresses = addressesOf(card)
    const [target, ...others] = book.matching(card, addresses, by)
    const contactId = target?.contactId ?? newId()
    if (target === undefined) {
      const { properties, uid } = card
      book.add({ contactId, uid, stored: undefined, properties, changed: true }, addresses)
      created += 1
    } else if (book.merge(target, card, addresses, others)) merged += 1
    else unchanged += 1
    first ??= contactId
    yield
  }
  const save: Array<NewContact> = []
  for (const entry of book.entries) {
    if (!entry.changed) continue
    const saved = toStored(entry.contactId, entry, [...entry.addresses.values()])
    if (saved.card !== entry.stored) save.push(saved)
    yield
  }
  return { save, remove: book.removed, created, merged, unchanged, first }
}
