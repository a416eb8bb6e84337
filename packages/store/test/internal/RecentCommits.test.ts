import { assert, describe, it } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { RoomCommit } from "@greenroom/store/EventLog"
import { isReplayable, RecentCommits, rowsOfCommits } from "../../src/internal/RecentCommits.ts"
import { logKind, ofKind, rowsOf } from "../../src/LogKind.ts"
import { endOfTransaction, type StreamPosition } from "../../src/StreamToken.ts"
import { makeEvent } from "../support/TestRoom.ts"

const roomId = "!room:example.org" as RoomId

/** A commit of one message. */
const commit = (nid: number, more: Partial<RoomCommit> = {}): RoomCommit => ({
  roomNid: 1,
  roomId,
  fence: 1,
  events: [{ nid, event: makeEvent(roomId), status: 0, stateBefore: null }],
  chains: [],
  deltas: [],
  memberships: [],
  transactions: [],
  outgoing: [],
  redactions: [],
  summary: { forwardExtremities: [], currentState: null, name: null, topic: null, joinedMembers: 1 },
  ...more
})

const recent = (commits: ReadonlyArray<readonly [xid: number, commit: RoomCommit]>): RecentCommits => {
  const all = new RecentCommits()
  for (const [xid, row] of commits) all.add(xid, rowsOfCommits(xid, [row]), 100)
  return all
}

describe("RecentCommits", () => {
  it("returns the commits after a transaction, up to the first unknown one", () => {
    const commits = recent([
      [5, commit(50)],
      [6, commit(60)],
      [8, commit(80)]
    ])
    const next = (xid: number) => {
      const slice = commits.next(endOfTransaction(xid), 1_000)
      return slice && [slice.events.map(({ position }) => position.nid), slice.upTo]
    }
    assert.deepStrictEqual(next(4), [[50, 60], endOfTransaction(6)])
    assert.deepStrictEqual(next(5), [[60], endOfTransaction(6)])
    assert.deepStrictEqual(next(7), [[80], endOfTransaction(8)])
    assert.deepStrictEqual([next(3), next(6), next(8)], [undefined, undefined, undefined])
  })

  it("returns the commits beyond transactions that wrote nothing", () => {
    const all = recent([
      [5, commit(50)],
      [8, commit(80)]
    ])
    for (const xid of [7, 6]) all.add(xid, { events: [], memberships: [] }, 0)
    const slice = all.next(endOfTransaction(4), 1_000)!
    assert.deepStrictEqual(
      [slice.events.map(({ position }) => position.nid), slice.upTo],
      [[50, 80], endOfTransaction(8)]
    )
  })

  it("a reader within a transaction gets nothing", () => {
    assert.isUndefined(recent([[5, commit(50)]]).next({ xid: 4, nid: 40 }, 1_000))
  })

  it("keeps a bounded number, and forgets older ones, events and empty transactions alike", () => {
    const none = commit(0, { events: [] })
    const all = recent(Array.from({ length: 2_000 }, (_, index) => [index + 1, none] as const))
    assert.strictEqual(all.after(endOfTransaction(0)).length, 1_000)
    const events = recent(Array.from({ length: 1_300 }, (_, index) => [index + 1, commit(index + 1)] as const))
    assert.strictEqual(events.after(endOfTransaction(0))[0], 301)
    assert.isUndefined(events.next(endOfTransaction(0), 1_000))
    assert.strictEqual(events.next(endOfTransaction(300), 1_000)?.events.length, 1_000)
  })

  it("keeps large events up to a number of characters", () => {
    const all = new RecentCommits()
    for (let xid = 1; xid <= 300; xid++) all.add(xid, rowsOfCommits(xid, [commit(xid)]), 64 * 1024)
    assert.strictEqual(all.after(endOfTransaction(0)).length, 128)
  })

  it("returns whole transactions up to a limit of events, and whether there are more", () => {
    const all = recent([5, 6, 7].map((xid) => [xid, commit(xid * 10)] as const))
    const next = (xid: number, limit: number) => {
      const slice = all.next(endOfTransaction(xid), limit)
      return slice && [slice.events.length, slice.upTo, slice.complete]
    }
    assert.deepStrictEqual(next(4, 2), [2, endOfTransaction(6), false])
    assert.deepStrictEqual(next(6, 2), [1, endOfTransaction(7), true])
    const many = new RecentCommits()
    many.add(1, rowsOfCommits(1, [commit(1), commit(2), commit(3)]), 300)
    assert.isUndefined(many.next(endOfTransaction(0), 2))
  })

  it("orders a transaction that comes late, and adds none twice", () => {
    const all = recent([5, 7].map((xid) => [xid, commit(xid * 10)] as const))
    assert.isTrue(all.hasGapAfter(endOfTransaction(5)))
    all.add(6, rowsOfCommits(6, [commit(60)]), 100)
    all.add(6, rowsOfCommits(6, [commit(61)]), 100)
    assert.isFalse(all.hasGapAfter(endOfTransaction(5)))
    assert.deepStrictEqual(
      all.next(endOfTransaction(4), 1_000)?.events.map(({ position }) => position.nid),
      [50, 60, 70]
    )
  })

  it("returns rows of other kinds with the events, each kind in the order of its positions", () => {
    const kind = logKind<string>("words", {} as never)
    const rowsAt = (xid: number, ...nids: ReadonlyArray<number>) => ({
      events: [],
      memberships: [],
      rows: ofKind(
        kind,
        nids.map((nid) => ({ position: { xid, nid }, row: `word ${nid}` }))
      )
    })
    const all = recent([[6, commit(60)]])
    all.add(7, rowsAt(7, 71, 70), 0)
    all.add(5, rowsAt(5, 50), 0)
    const slice = all.next(endOfTransaction(4), 1_000)!
    assert.deepStrictEqual(
      rowsOf(slice.rows, kind).map(({ row }) => row),
      ["word 50", "word 70", "word 71"]
    )
    assert.deepStrictEqual(slice.last, { xid: 7, nid: 71 })
    assert.deepStrictEqual(all.next(endOfTransaction(4), 2)?.last, { xid: 6, nid: 60 })
    assert.isUndefined(all.next(endOfTransaction(6), 1))
  })

  it("orders the rows of a transaction by their numbers, whatever the order of its commits", () => {
    const userId = "@alice:example.org" as UserId
    const join = (nid: number) =>
      commit(nid, {
        memberships: [{ userId, membership: "join", sender: userId, eventNid: nid, causedBy: nid, local: true }]
      })
    const all = new RecentCommits()
    all.add(5, rowsOfCommits(5, [join(51), join(50)]), 200)
    const slice = all.next(endOfTransaction(4), 1_000)!
    const nids = (rows: ReadonlyArray<{ readonly position: StreamPosition }>) =>
      rows.map(({ position }) => position.nid)
    assert.deepStrictEqual(
      [nids(slice.events), nids(slice.memberships)],
      [
        [50, 51],
        [50, 51]
      ]
    )
    assert.deepStrictEqual(slice.last, { xid: 5, nid: 51 })
  })

  it("a commit that redacts its own events must be read from the database", () => {
    assert.isTrue(isReplayable([commit(50)]))
    assert.isFalse(isReplayable([commit(50), commit(60, { redactions: [makeEvent(roomId)] })]))
  })
})
