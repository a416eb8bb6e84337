/**
 * Announcements of a group commit with its notification, so that the other nodes need not read it from the tables: rows of
 * the log as JSON, in parts that fit into a payload of `NOTIFY`. A commit that is too large for some parts, or redacts what
 * it stores, is only named, and read. Announcements save work; nothing depends on them.
 *
 * The parts come before the notification that wakes the node, on a channel of their own:
 *
 *     NAME XID PARTS [[0, roomNid, nid, stateBefore, stateAfter, event], [1, roomNid, nid, roomId, userId, membership], ...]
 *
 * Source: PostgreSQL, "NOTIFY" (a payload is shorter than 8,000 bytes; notifications of a transaction keep their order).
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { StreamedEvent, StreamedMembership } from "../LogSlice.ts"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../RoomCommit.ts"
import type { StateRef } from "../StateRef.ts"
import { type CommittedRows, isReplayable, type RecentCommits } from "./RecentCommits.ts"

export const announcementChannel = "greenroom_log_rows"

/** How many bytes of rows a part has at most, and how many parts are sent of a commit. */
const maxPartBytes = 7_900
const maxParts = 8

const kinds = { event: 0, membership: 1 } as const

type AnnouncedState = readonly [chain: number, seq: number] | null
type AnnouncedRow =
  | readonly [0, roomNid: number, nid: number, before: AnnouncedState, after: AnnouncedState, event: Event]
  | readonly [1, roomNid: number, nid: number, roomId: RoomId, userId: UserId, membership: string]

const stateText = (state: StateRef | null | undefined): string =>
  state == null ? "null" : `[${state.chain},${state.seq}]`

/** Without its states an event does not continue the timeline before it: that has a gap. */
const eventText = (roomNid: number, logged: LoggedEvent, body: string): string => {
  const { afterGap = false, nid, stateAfter, stateBefore } = logged
  const states = afterGap ? "null,null" : `${stateText(stateBefore)},${stateText(stateAfter)}`
  return `[${kinds.event},${roomNid},${nid},${states},${body}]`
}

/** `bodies`: of the events of all commits, in their order. */
const rowTexts = function* (commits: ReadonlyArray<RoomCommit>, bodies: ReadonlyArray<string>): Generator<string> {
  let next = 0
  for (const { events, memberships, placed = [], roomId, roomNid } of commits) {
    for (const logged of events) {
      const body = bodies[next++]!
      if (logged.status === EventStatus.timeline) yield eventText(roomNid, logged, body)
    }
    for (const logged of placed) {
      if (logged.status === EventStatus.timeline) yield eventText(roomNid, logged, JSON.stringify(logged.event))
    }
    for (const { causedBy, local, membership, userId } of memberships) {
      if (local) yield JSON.stringify([kinds.membership, roomNid, causedBy, roomId, userId, membership])
    }
  }
}

/** The rows of commits as texts of JSON, or none if they are to be read. */
export const announcementOf = (
  commits: ReadonlyArray<RoomCommit>,
  bodies: ReadonlyArray<string>
): ReadonlyArray<string> => {
  if (!isReplayable(commits)) return []
  const parts: Array<string> = []
  let part: Array<string> = []
  let size = 2
  for (const row of rowTexts(commits, bodies)) {
    const bytes = Buffer.byteLength(row) + 1
    if (size + bytes > maxPartBytes) {
      parts.push(`[${part.join(",")}]`)
      if (parts.length === maxParts || bytes > maxPartBytes) return []
      part = []
      size = 2
    }
    part.push(row)
    size += bytes
  }
  return [...parts, `[${part.join(",")}]`]
}

const toState = (state: AnnouncedState): StateRef | null => (state === null ? null : { chain: state[0], seq: state[1] })

/** Undefined if a row is of a kind that this version does not know. */
const toRows = (xid: number, rows: ReadonlyArray<AnnouncedRow>): CommittedRows | undefined => {
  const events: Array<StreamedEvent> = []
  const memberships: Array<StreamedMembership> = []
  for (const row of rows) {
    const position = { xid, nid: row[2] }
    if (row[0] === kinds.event) {
      const [, roomNid, , before, after, event] = row
      const stateBefore = toState(before)
      events.push(
        stateBefore === null
          ? { position, roomNid, event }
          : { position, roomNid, event, states: { before: stateBefore, after: toState(after) ?? stateBefore } }
      )
    } else if (row[0] === kinds.membership) {
      const [, roomNid, , roomId, userId, membership] = row
      memberships.push({ position, roomNid, roomId, userId, membership })
    } else return undefined
  }
  return { events, memberships }
}

/** Reads announcements of other nodes into `recent`. `name` is that of this node, whose own announcements are left out. */
export const makeAnnouncementReader = (name: string, recent: RecentCommits): ((payload: string) => void) => {
  const own = `${name} `
  let received:
    | { readonly xid: number; readonly rows: Array<AnnouncedRow>; characters: number; missing: number }
    | undefined
  return (payload) => {
    if (payload.startsWith(own)) return
    const [, transaction, parts, text] = /^\S+ (\d+) (\d+) (.*)$/s.exec(payload) ?? []
    if (text === undefined) return
    const xid = Number(transaction)
    if (received?.xid !== xid) received = { xid, rows: [], characters: 0, missing: Number(parts) }
    received.rows.push(...(JSON.parse(text) as ReadonlyArray<AnnouncedRow>))
    received.characters += text.length
    if (--received.missing > 0) return
    const rows = toRows(xid, received.rows)
    if (rows !== undefined) recent.add(xid, rows, received.characters)
    received = undefined
  }
}
