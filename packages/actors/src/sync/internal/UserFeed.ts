/**
 * What a user's readers on this node have not fetched yet: the newest events of the user's rooms, and the last presence
 * and typing of whom the user may see. There is one feed for all connections of a user, while there are any.
 */
import { type Event, toClientEvent } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { StreamedEvent, StreamedMembership } from "@greenroom/store/EventLog"
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import { Effect } from "effect"
import type { EphemeralUpdate } from "../../presence/EphemeralStream.ts"

/** An event as text, made once for all who get it. */
export class FeedEntry {
  readonly position: StreamPosition
  private event: Event
  private text: string | undefined

  constructor({ event, position }: StreamedEvent) {
    this.position = position
    this.event = event
  }

  get eventId(): EventId {
    return this.event.event_id
  }

  /** Whether the event is one of these, or tells the content of one that it replaced. */
  tells(ids: ReadonlySet<EventId>): boolean {
    return (
      ids.has(this.event.event_id) || (this.event.replaces_state !== undefined && ids.has(this.event.replaces_state))
    )
  }

  /** The event was redacted, or what it replaced was. */
  replace(event: Event): void {
    this.event = event
    this.text = undefined
  }

  /** The JSON of the event at `now`, milliseconds since 1970. */
  json(now: number): string {
    this.text ??= JSON.stringify(toClientEvent(this.event)).slice(0, -1)
    return `${this.text},"age":${Math.max(0, now - this.event.origin_server_ts)}}`
  }
}

const changed = Effect.succeed(true)
const unchanged = Effect.succeed(false)

/** How many events a feed keeps; readers that are further behind read from the store. */
const maxEntries = 1000

export class UserFeed {
  readonly userId: UserId
  readonly rooms = new Set<RoomId>()
  /** Everything of this user after this position is in `entries`. */
  since: StreamPosition
  /** Every ephemeral update for this user after this position is in `updates`. */
  updatesSince: number
  /** How many connections read from the feed now. */
  readers = 0
  lastRead: number
  /** Nothing is added any more: readers need another feed. */
  closed = false
  private entries: Array<FeedEntry> = []
  private readonly updates = new Map<string, EphemeralUpdate>()
  /** How often it was told that there is something new. */
  wakes = 0
  private readonly waiting = new Set<(woken: boolean) => void>()

  constructor(userId: UserId, since: StreamPosition, updatesSince: number, now: number) {
    this.userId = userId
    this.since = since
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

  /** Adds an update and gives the one that it replaces. */
  addUpdate(key: string, update: EphemeralUpdate): EphemeralUpdate | undefined {
    const before = this.updates.get(key)
    this.updates.delete(key)
    this.updates.set(key, update)
    return before
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

  /** The first `limit` events after a position that is not before `since`. */
  after(position: StreamPosition, limit: number): ReadonlyArray<FeedEntry> {
    let low = 0
    let high = this.entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (comparePositions(this.entries[middle]!.position, position) <= 0) low = middle + 1
      else high = middle
    }
    return this.entries.slice(low, low + limit)
  }

  /** The entries whose events are among these or tell their content. */
  telling(ids: ReadonlySet<EventId>): ReadonlyArray<FeedEntry> {
    return this.entries.filter((entry) => entry.tells(ids))
  }

  updatesAfter(position: number): ReadonlyArray<EphemeralUpdate> {
    const found: Array<EphemeralUpdate> = []
    for (const update of this.updates.values()) if (update.position > position) found.push(update)
    return found
  }

  /** Forgets ephemeral updates up to a position; readers from before it get what is the case now instead. */
  forgetUpdates(upTo: number): void {
    for (const [key, update] of this.updates) {
      if (update.position > upTo) continue
      this.updates.delete(key)
      this.updatesSince = Math.max(this.updatesSince, update.position)
    }
  }

  /** The user's rooms change after the event that says so has been added. */
  apply(change: StreamedMembership): void {
    if (change.membership === "join") this.rooms.add(change.roomId)
    else this.rooms.delete(change.roomId)
  }
}
