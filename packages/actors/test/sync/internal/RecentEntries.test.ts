import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { beginning } from "@greenroom/store/StreamToken"
import { FeedEntry } from "../../../src/sync/internal/FeedEntry.ts"
import { maxRecentBytes, RecentEntries } from "../../../src/sync/internal/RecentEntries.ts"
import { UserFeed } from "../../../src/sync/internal/UserFeed.ts"

const bodyBytes = 60_000

const entry = (nid: number) =>
  new FeedEntry({
    position: { xid: 1, nid },
    roomNid: 1,
    event: {
      event_id: `$${nid}:green.test` as EventId,
      type: "m.room.message",
      origin_server_ts: 0,
      content: { body: "x".repeat(bodyBytes) }
    } as unknown as Event
  })

describe("RecentEntries", () => {
  it("when the entries have too many bytes, every feed forgets the oldest, and its readers are sent to the store", () => {
    const recent = new RecentEntries()
    const feeds = [1, 2].map((item) => new UserFeed(`@${item}:green.test` as UserId, beginning, beginning, 0))
    let held = 0
    for (let nid = 1; nid <= 2_000; nid++) {
      const added = entry(nid)
      feeds[nid % 2]!.add(added)
      const forgotten = recent.add(added)
      held++
      if (forgotten === undefined) continue
      for (const feed of feeds) feed.forgetUpTo(forgotten)
      assert.isAtMost(forgotten.nid, nid)
      assert.isAtLeast(feeds[0]!.since.nid, forgotten.nid)
      held = nid - forgotten.nid
      assert.isAbove(held, 0)
    }
    assert.isAtMost(held * bodyBytes, maxRecentBytes)
    const { since } = feeds[0]!
    assert.isAbove(since.nid, 1_000)
    const { complete, entries } = feeds[0]!.after(since, 1_000, Number.MAX_SAFE_INTEGER)
    assert.isTrue(complete)
    assert.isTrue(entries.every(({ position }) => position.nid > since.nid))
  })
})
