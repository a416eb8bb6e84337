/**
 * Receipts of other servers whose events are not here yet: the last of each user, room and thread, in bounded memory. Plain and
 * synchronous.
 */
import type { RemoteReceipt } from "@greenroom/protocol/federation/Edu"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"

/** A receipt and the server that sent it. */
export interface EarlyReceipt {
  readonly origin: ServerName
  readonly receipt: RemoteReceipt
}

/** How long a receipt waits, in ms, and how many do: of one server, and of all. The oldest give way. */
const longestWait = 10 * 60_000
const mostOfServer = 200
const most = 5_000

interface Waiting extends EarlyReceipt {
  readonly since: number
}

const nameOf = ({ roomId, threadId, userId }: RemoteReceipt): string => JSON.stringify([userId, roomId, threadId])

export class EarlyReceipts {
  /** By their names, oldest first. */
  private readonly waiting = new Map<string, Waiting>()
  private readonly ofEvents = new Map<EventId, Set<string>>()
  private readonly ofServers = new Map<ServerName, Set<string>>()

  get isEmpty(): boolean {
    return this.waiting.size === 0
  }

  /** `now` is in ms of the monotonic clock, as below. */
  add({ origin, receipt }: EarlyReceipt, now: number): void {
    const name = nameOf(receipt)
    this.remove(name)
    this.waiting.set(name, { origin, receipt, since: now })
    const ofServer = addTo(this.ofServers, origin, name)
    addTo(this.ofEvents, receipt.eventId, name)
    if (ofServer.size > mostOfServer) this.remove(ofServer.values().next().value!)
    if (this.waiting.size > most) this.remove(this.waiting.keys().next().value!)
  }

  /** Takes out those of the events. Receipts that have waited too long are dropped. */
  take(eventIds: Iterable<EventId>, now: number): ReadonlyArray<EarlyReceipt> {
    for (const [name, { since }] of this.waiting) {
      if (now - since <= longestWait) break
      this.remove(name)
    }
    const taken: Array<EarlyReceipt> = []
    for (const eventId of eventIds) {
      for (const name of this.ofEvents.get(eventId) ?? []) {
        const found = this.remove(name)
        if (found !== undefined) taken.push({ origin: found.origin, receipt: found.receipt })
      }
    }
    return taken
  }

  private remove(name: string): Waiting | undefined {
    const found = this.waiting.get(name)
    if (found === undefined) return undefined
    this.waiting.delete(name)
    removeFrom(this.ofServers, found.origin, name)
    removeFrom(this.ofEvents, found.receipt.eventId, name)
    return found
  }
}

const addTo = <Key>(sets: Map<Key, Set<string>>, key: Key, name: string): Set<string> => {
  const set = sets.get(key) ?? new Set()
  sets.set(key, set)
  return set.add(name)
}

const removeFrom = <Key>(sets: Map<Key, Set<string>>, key: Key, name: string): void => {
  const set = sets.get(key)
  set?.delete(name)
  if (set?.size === 0) sets.delete(key)
}
