/**
 * The newest events of a user's rooms, and the last presence and typing of the users that the user may see, for the
 * readers of the user on this node. All connections of a user share one feed.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { PrekeyCounts } from "@greenroom/store/DeviceKeyStore"
import type { StreamedMembership } from "@greenroom/store/EventLog"
import { comparePositions, laterPosition, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { EphemeralUpdate } from "../../presence/EphemeralStream.ts"
import type { Counts } from "../../user/push/UnreadCounts.ts"
import type { FeedEntry } from "./FeedEntry.ts"

const changed = Effect.succeed(true)
const unchanged = Effect.succeed(false)

/** How many events a feed keeps; readers that are further behind read from the store. */
const maxEntries = 1000

/** The first entries after a place. `complete` says that there are no more. */
export interface Entries {
  readonly entries: ReadonlyArray<FeedEntry>
  readonly complete: boolean
}

/** The first entries with which there are `maxBytes` bytes. */
const withinBytes = (entries: ReadonlyArray<FeedEntry>, maxBytes: number): ReadonlyArray<FeedEntry> => {
  let bytes = 0
  const end = entries.findIndex((entry) => {
    bytes += entry.size
    return bytes >= maxBytes
  })
  return end === -1 ? entries : entries.slice(0, end + 1)
}

/** The unread counts of a room up to a position. */
export interface CountedTo {
  readonly upTo: StreamPosition
  readonly main: Counts
  readonly threads: { readonly [threadId: string]: Counts }
}

/** A device that reads the feed. */
export interface FeedDevice {
  /** The position up to which no unacknowledged message waits for the device. */
  acknowledgedTo?: StreamPosition
  /** The counts of its keys; undefined once they changed. */
  keyCounts?: PrekeyCounts | undefined
}

export class UserFeed {
  readonly userId: UserId
  readonly rooms = new Set<RoomId>()
  /** Everything of this user after this position is in `entries`. */
  since: StreamPosition
  /**
   * The position of the last row other than an event that concerned the user: account data, a receipt, a change of the
   * user's own memberships.
   */
  rowsAt: StreamPosition
  /** Whether the user ignored anybody at `at`, a value of `rowsAt`. */
  ignoring: { readonly at: StreamPosition; readonly anybody: boolean } | undefined
  /** The unread counts by the default push rules, by the numbers of rooms; undefined before the first. */
  private counts: Map<number, CountedTo> | undefined
  private readonly devices = new Map<string, FeedDevice>()
  /** How often the counts of keys changed. */
  keyCountChanges = 0
  /** Every ephemeral update for this user after this position is in `updates`. */
  updatesSince: StreamPosition
  /** How many connections read from the feed now. */
  readers = 0
  /** When a connection read last, by the monotonic clock. */
  lastRead: number
  /** The feed takes no more events: readers need another one. */
  closed = false
  private readonly entries: Array<FeedEntry> = []
  private readonly updates = new Map<string, EphemeralUpdate>()
  /** How often it was woken. */
  wakes = 0
  private readonly waiting = new Set<(woken: boolean) => void>()

  constructor(userId: UserId, since: StreamPosition, updatesSince: StreamPosition, now: number) {
    this.userId = userId
    this.since = since
    this.rowsAt = since
    this.updatesSince = updatesSince
    this.lastRead = now
  }

  add(entry: FeedEntry): void {
    this.entries.push(entry)
    if (this.entries.length > maxEntries) {
      const dropped = this.entries.splice(0, maxEntries / 2)
      this.since = dropped.at(-1)!.position
    }
  }

  /** Adds an update and returns the one that it replaces. */
  addUpdate(key: string, update: EphemeralUpdate): EphemeralUpdate | undefined {
    const before = this.updates.get(key)
    this.updates.delete(key)
    this.updates.set(key, update)
    return before
  }

  countsOf(roomNid: number): CountedTo | undefined {
    return this.counts?.get(roomNid)
  }

  noteCounts(roomNid: number, counted: CountedTo): void {
    this.counts ??= new Map()
    this.counts.set(roomNid, counted)
  }

  deviceOf(deviceId: string): FeedDevice {
    const known = this.devices.get(deviceId)
    if (known !== undefined) return known
    const device: FeedDevice = {}
    this.devices.set(deviceId, device)
    return device
  }

  forgetKeyCounts(deviceId: string): void {
    this.keyCountChanges++
    const device = this.devices.get(deviceId)
    if (device !== undefined) device.keyCounts = undefined
  }

  /** Opens the way for all that wait. */
  wake(): void {
    this.wakes++
    const woken = [...this.waiting]
    this.waiting.clear()
    for (const resume of woken) resume(true)
  }

  /** Waits for the first `wake` after so many of them: true if there was one, false if `deadline` says that it is enough. */
  changedSince(wakes: number, deadline?: (expire: () => void) => () => void): Effect.Effect<boolean> {
    return Effect.callback<boolean>((resume) => {
      if (this.wakes !== wakes) return resume(Effect.succeed(true))
      const end = (woken: boolean) => {
        this.waiting.delete(end)
        forget?.()
        resume(woken ? changed : unchanged)
      }
      this.waiting.add(end)
      const forget = deadline?.(() => end(false))
      return Effect.sync(() => {
        this.waiting.delete(end)
        forget?.()
      })
    })
  }

  /** The first `limit` events, of `maxBytes` bytes, after a position that is not before `since`. */
  after(position: StreamPosition, limit: number, maxBytes: number): Entries {
    const start = this.indexAfter(position)
    const found = withinBytes(this.entries.slice(start, start + limit), maxBytes)
    return { entries: found, complete: found.length < limit && start + found.length === this.entries.length }
  }

  /** The events of one room after a position, up to another one. */
  of(roomNid: number, after: StreamPosition, upTo: StreamPosition): ReadonlyArray<FeedEntry> {
    return this.entries
      .slice(this.indexAfter(after))
      .filter((entry) => entry.roomNid === roomNid && comparePositions(entry.position, upTo) <= 0)
  }

  /** Forgets the events up to a position; readers from before it read from the store. */
  forgetUpTo(position: StreamPosition): void {
    if (comparePositions(position, this.since) <= 0) return
    this.entries.splice(0, this.indexAfter(position))
    this.since = position
  }

  /** The index of the first entry after a position. */
  private indexAfter(position: StreamPosition): number {
    let low = 0
    let high = this.entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (comparePositions(this.entries[middle]!.position, position) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The entries of these events, and those that contain their content. */
  entriesConcerning(ids: ReadonlySet<EventId>): ReadonlyArray<FeedEntry> {
    return this.entries.filter((entry) => entry.concerns(ids))
  }

  /** The updates after a position, oldest first. */
  updatesAfter(position: StreamPosition): ReadonlyArray<EphemeralUpdate> {
    return [...this.updates.values()].filter((update) => comparePositions(update.position, position) > 0)
  }

  /** Forgets ephemeral updates up to a position; readers from before it get the present values instead. */
  forgetUpdates(upTo: StreamPosition): void {
    for (const [key, update] of this.updates) {
      if (comparePositions(update.position, upTo) > 0) continue
      this.updates.delete(key)
      this.updatesSince = laterPosition(this.updatesSince, update.position)
    }
  }

  /** Forgets all ephemeral updates: at this position an epoch without any began. */
  forgetAllUpdates(position: StreamPosition): void {
    this.updates.clear()
    this.updatesSince = position
  }

  /** The user's rooms change after the event that says so has been added. */
  apply(change: StreamedMembership): void {
    if (change.membership === "join") this.rooms.add(change.roomId)
    else this.rooms.delete(change.roomId)
  }
}
