import { assert, describe, it } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { RoomCommit } from "@greenroom/store/EventLog"
import { announcementOf, makeAnnouncementReader } from "../../src/internal/logAnnouncements.ts"
import { RecentCommits, rowsOfCommits } from "../../src/internal/RecentCommits.ts"
import { endOfTransaction } from "../../src/StreamToken.ts"
import { makeEvent } from "../support/TestRoom.ts"

const roomId = "!room:example.org" as RoomId
const userId = "@alice:example.org" as UserId

/** A commit of messages with so many characters, one of them rejected, and a membership. */
const commit = (count: number, characters: number, more: Partial<RoomCommit> = {}): RoomCommit => ({
  roomNid: 1,
  roomId,
  fence: 1,
  events: Array.from({ length: count }, (_, index) => ({
    nid: index + 1,
    event: { ...makeEvent(roomId), content: { body: "é".repeat(characters / 2) } },
    status: index === 0 ? 3 : 0,
    stateBefore: { chain: 1, seq: index },
    ...(index === 2 ? { stateAfter: { chain: 1, seq: 9 } } : {})
  })),
  chains: [],
  deltas: [],
  memberships: [
    { userId, membership: "join", sender: userId, eventNid: 2, causedBy: 2, local: true },
    { userId, membership: "leave", sender: userId, eventNid: 3, causedBy: 3, local: false }
  ],
  transactions: [],
  outgoing: [],
  redactions: [],
  summary: { forwardExtremities: [], currentState: null, name: null, topic: null, joinedMembers: 1 },
  ...more
})

const announced = (...commits: ReadonlyArray<RoomCommit>) =>
  announcementOf(
    commits,
    commits.flatMap(({ events }) => events.map(({ event }) => JSON.stringify(event)))
  )

describe("logAnnouncements", () => {
  it("a node receives the rows of a commit of another node, in one or more parts", () => {
    const commits = [commit(4, 20), commit(12, 2_000)]
    const parts = announced(...commits)
    assert.isAbove(parts.length, 2)
    for (const part of parts) assert.isBelow(Buffer.byteLength(part), 7_950)
    const recent = new RecentCommits()
    const read = makeAnnouncementReader("here", recent)
    for (const part of parts.slice(0, -1)) read(`there 7 ${parts.length} ${part}`)
    assert.isUndefined(recent.next(endOfTransaction(6), 100))
    read(`there 7 ${parts.length} ${parts.at(-1)}`)
    const own = new RecentCommits()
    own.add(7, rowsOfCommits(7, commits), 0)
    assert.strictEqual(recent.next(endOfTransaction(6), 100)?.events.length, 14)
    assert.deepStrictEqual(recent.next(endOfTransaction(6), 100), own.next(endOfTransaction(6), 100))
  })

  it("an event after a gap is announced without its states, and placed events are announced with those of the timeline", () => {
    const [rejected, afterGap, placed] = commit(3, 20).events
    const gap = commit(0, 0, {
      events: [rejected!, { ...afterGap!, afterGap: true }],
      placed: [
        { ...placed!, outlierNid: 70 },
        { ...rejected!, nid: 4, outlierNid: 71 }
      ]
    })
    const recent = new RecentCommits()
    const read = makeAnnouncementReader("here", recent)
    for (const part of announced(gap)) read(`there 7 1 ${part}`)
    const { events } = recent.next(endOfTransaction(6), 100)!
    assert.deepStrictEqual(
      events.map(({ position, states }) => [position.nid, states]),
      [
        [2, undefined],
        [3, { before: { chain: 1, seq: 2 }, after: { chain: 1, seq: 9 } }]
      ]
    )
  })

  it("parts of a transaction whose others were lost are not taken for those of the next one", () => {
    const recent = new RecentCommits()
    const read = makeAnnouncementReader("here", recent)
    const [part] = announced(commit(2, 20))
    read(`there 7 2 ${part}`)
    read(`there 8 1 ${part}`)
    assert.deepStrictEqual(recent.after(endOfTransaction(6)), [8])
    assert.deepStrictEqual(
      recent.next(endOfTransaction(7), 100)?.events.map(({ position }) => position),
      [{ xid: 8, nid: 2 }]
    )
  })

  it("a commit that is large, or redacts its own event, is only named", () => {
    assert.deepStrictEqual(announced(commit(2, 9_000)), [])
    assert.deepStrictEqual(announced(commit(40, 5_000)), [])
    assert.deepStrictEqual(announced(commit(2, 20, { redactions: [makeEvent(roomId)] })), [])
  })

  it("a commit that adds nothing to the log fills its place, and a node's own are not taken twice", () => {
    const recent = new RecentCommits()
    const read = makeAnnouncementReader("here", recent)
    const [part] = announced(commit(1, 20, { memberships: [] }))
    read(`here 7 1 ${part}`)
    assert.isUndefined(recent.next(endOfTransaction(6), 100))
    read(`there 7 1 ${part}`)
    assert.deepStrictEqual(recent.next(endOfTransaction(6), 100)?.upTo, endOfTransaction(7))
  })

  it("an announcement that is not understood is left to the reader", () => {
    const recent = new RecentCommits()
    const read = makeAnnouncementReader("here", recent)
    for (const payload of ["", "there", "there x 1 []", "there 7 1 [[9,1,2]]"]) read(payload)
    assert.deepStrictEqual(recent.next(endOfTransaction(6), 100), undefined)
  })
})
