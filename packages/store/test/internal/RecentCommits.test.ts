import { assert, describe, it } from "@effect/vitest"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { RoomCommit } from "@greenroom/store/EventLog"
import { RecentCommits } from "../../src/internal/RecentCommits.ts"
import { endOfTransaction } from "../../src/StreamToken.ts"
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
  for (const [xid, each] of commits) all.add(xid, [each])
  return all
}

describe("RecentCommits", () => {
  it("tells what follows the end of a transaction, up to the first that is not ours", () => {
    const commits = recent([
      [5, commit(50)],
      [6, commit(60)],
      [8, commit(80)]
    ])
    const next = (xid: number) => {
      const slice = commits.next(endOfTransaction(xid))
      return slice && [slice.events.map(({ position }) => position.nid), slice.upTo]
    }
    assert.deepStrictEqual(next(4), [[50, 60], endOfTransaction(6)])
    assert.deepStrictEqual(next(5), [[60], endOfTransaction(6)])
    assert.deepStrictEqual(next(7), [[80], endOfTransaction(8)])
    assert.deepStrictEqual([next(3), next(6), next(8)], [undefined, undefined, undefined])
  })

  it("tells nothing to who is in the midst of a transaction", () => {
    assert.isUndefined(recent([[5, commit(50)]]).next({ xid: 4, nid: 40 }))
  })

  it("does not tell what was redacted at once", () => {
    const redacted = recent([
      [5, commit(50)],
      [6, commit(60, { redactions: [makeEvent(roomId)] })]
    ])
    assert.deepStrictEqual(redacted.next(endOfTransaction(4))?.upTo, endOfTransaction(5))
    assert.isUndefined(redacted.next(endOfTransaction(5)))
  })
})
