/**
 * The entries that the feeds of this node hold, each once, in the order in which they came. When they have too many bytes
 * the oldest are forgotten, in every feed: readers that are further behind read from the store.
 */
import { comparePositions, type StreamPosition } from "@greenroom/store/StreamToken"
import type { FeedEntry } from "./FeedEntry.ts"

/** How many bytes of events the feeds of a node hold at most, and how many are left when the oldest were forgotten. */
export const maxRecentBytes = 16 * 1024 * 1024
const keptBytes = maxRecentBytes / 2

export class RecentEntries {
  private entries: Array<FeedEntry> = []
  private bytes = 0

  /** Notes an entry. Returns the position up to which the feeds must forget theirs now, if they must. */
  add(entry: FeedEntry): StreamPosition | undefined {
    this.entries.push(entry)
    this.bytes += entry.size
    return this.bytes > maxRecentBytes ? this.forget() : undefined
  }

  private forget(): StreamPosition {
    let upTo = this.entries[0]!.position
    let count = 0
    for (; this.bytes > keptBytes && count < this.entries.length; count++) {
      const { position, size } = this.entries[count]!
      this.bytes -= size
      if (comparePositions(position, upTo) > 0) upTo = position
    }
    this.entries = this.entries.slice(count)
    return upTo
  }
}
