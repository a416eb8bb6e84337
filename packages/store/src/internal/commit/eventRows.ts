/**
 * The part of the commit statement that writes events: new ones, auth edges, outliers that are placed in the graph, redacted ones, and the
 * gaps between events of the timeline.
 */
import { bigints, integers, texts } from "../../PgArrays.ts"
import { EventStatus, type RoomCommit } from "../../RoomCommit.ts"
import { placedIn, rowsOf } from "./commitRows.ts"
import { type DescribedCommit, type DescribedEvent, relatesTo } from "./describedEvents.ts"
import { bigint, boolean, givenRows, integer, text } from "./givenRows.ts"
import { type Part, part } from "./statementParts.ts"

interface EventRow {
  readonly commit: RoomCommit
  readonly described: DescribedEvent
  readonly body: string
}

const givenEvents = givenRows<EventRow>(
  {
    room_nid: bigint(({ commit }) => commit.roomNid),
    fence: bigint(({ commit }) => commit.fence),
    nid: bigint(({ described }) => described.logged.nid),
    event_id: text(({ described }) => described.logged.event.event_id),
    type: text(({ described }) => described.logged.event.type),
    sender: text(({ described }) => described.logged.event.sender),
    depth: bigint(({ described }) => described.logged.event.depth),
    state_chain: bigint(({ described }) => described.logged.stateBefore?.chain ?? null),
    state_seq: integer(({ described }) => described.logged.stateBefore?.seq ?? null),
    status: integer(({ described }) => described.logged.status),
    notifies: boolean(({ described }) => described.push.notifies),
    highlights: boolean(({ described }) => described.push.highlights),
    notify_offset: integer(({ described }) => described.notifyOffset),
    body: text(({ body }) => body)
  },
  {
    state_key: text(({ described }) => described.logged.event.state_key ?? null),
    after_chain: bigint(({ described }) => described.logged.stateAfter?.chain ?? null),
    after_seq: integer(({ described }) => described.logged.stateAfter?.seq ?? null)
  },
  {
    relates_to: text(({ described }) => relatesTo(described)),
    rel_type: text(({ described }) => described.relation?.relType ?? null),
    thread_id: text(({ described }) => described.threadId ?? null)
  },
  { history_xid: bigint(({ described }) => described.logged.historyXid ?? null) }
)

export const insertEvents = (
  commits: ReadonlyArray<DescribedCommit>,
  bodies: ReadonlyArray<string>
): ReadonlyArray<Part> => {
  let index = 0
  const rows = commits.flatMap(({ commit, events }) =>
    events.map((described) => ({ commit, described, body: bodies[index++]! }))
  )
  return [
    part`, new_events AS (
    INSERT INTO events (
      nid, xid, room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights, notify_count, body)
    SELECT
      nid, CASE status WHEN 1 THEN coalesce(history_xid, 0)::text::xid8 ELSE (SELECT xid FROM committing) END,
      room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights,
      CASE WHEN notify_offset > 0 THEN fenced.notified + notify_offset ELSE notify_offset - fenced.notified END, body
    FROM `,
    givenEvents(rows),
    part` JOIN fenced USING (room_nid, fence))`
  ]
}

export const insertAuthEdges = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events }) =>
    events.flatMap(({ authNids = [], nid }) => authNids.map((authNid) => ({ nid, authNid })))
  )
  if (empty) return undefined
  return part`, new_auth_edges AS (
    INSERT INTO event_auth (event_nid, auth_nid)
    SELECT event_nid, auth_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.authNid))}::bigint[]
    ) AS given (room_nid, fence, event_nid, auth_nid)
    JOIN fenced USING (room_nid, fence))`
}

export const updateRedacted = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.redactions)
  if (empty) return undefined
  return part`, redacted AS (
    UPDATE events SET body = given.body, rel_type = NULL, thread_id = NULL, notifies = false, highlights = false
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.event_id))}::text[],
      ${texts(rows.map((row) => JSON.stringify(row)))}::text[]
    ) AS given (room_nid, fence, event_id, body)
    JOIN fenced USING (room_nid, fence)
    WHERE events.event_id = given.event_id AND events.room_nid = given.room_nid
    RETURNING events.nid)
  , unfound AS (DELETE FROM event_search USING redacted WHERE event_search.nid = redacted.nid)
  , unmentioned AS (DELETE FROM mentions USING redacted WHERE mentions.nid = redacted.nid)
  , unnotified AS (DELETE FROM push_actions USING redacted WHERE push_actions.nid = redacted.nid)
  , room_unnotified AS (DELETE FROM room_push_actions USING redacted WHERE room_push_actions.nid = redacted.nid)`
}

/** A de-outliered event gets a new nid; rows that reference it by its nid follow. */
export const placeOutliers = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.placed ?? [])
  if (empty) return undefined
  return part`, placements AS (
    SELECT given.* FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.outlierNid))}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.stateBefore?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateBefore?.seq ?? null))}::integer[],
      ${bigints(rows.map((row) => row.stateAfter?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateAfter?.seq ?? null))}::integer[],
      ${integers(rows.map((row) => row.status))}::integer[],
      ${texts(rows.map((row) => String(row.historyXid ?? 0)))}::text[]
    ) AS given (room_nid, fence, old_nid, nid, state_chain, state_seq, after_chain, after_seq, status, history_xid)
    JOIN fenced USING (room_nid, fence))
  , placed_events AS (
    UPDATE events SET
      nid = placements.nid, status = placements.status,
      xid = CASE placements.status WHEN 1 THEN placements.history_xid::xid8 ELSE (SELECT xid FROM committing) END,
      state_chain = placements.state_chain, state_seq = placements.state_seq,
      after_chain = placements.after_chain, after_seq = placements.after_seq
    FROM placements WHERE events.nid = placements.old_nid
    RETURNING events.room_nid, events.type, events.state_key, placements.old_nid, placements.nid)
  , placed_deltas AS (
    UPDATE state_deltas SET event_nid = placed_events.nid
    FROM placed_events JOIN state_chains ON state_chains.room_nid = placed_events.room_nid
    WHERE state_deltas.chain = state_chains.chain AND state_deltas.type = placed_events.type
      AND state_deltas.state_key = placed_events.state_key AND state_deltas.event_nid = placed_events.old_nid)
  , placed_auth_edges AS (
    UPDATE event_auth SET
      event_nid = coalesce(of_event.nid, edge.event_nid), auth_nid = coalesce(of_auth.nid, edge.auth_nid)
    FROM (
      SELECT edge.event_nid, edge.auth_nid FROM placed_events JOIN event_auth edge ON edge.event_nid = placed_events.old_nid
      UNION
      SELECT edge.event_nid, edge.auth_nid FROM placed_events JOIN event_auth edge ON edge.auth_nid = placed_events.old_nid
    ) AS edge
    LEFT JOIN placed_events of_event ON of_event.old_nid = edge.event_nid
    LEFT JOIN placed_events of_auth ON of_auth.old_nid = edge.auth_nid
    WHERE event_auth.event_nid = edge.event_nid AND event_auth.auth_nid = edge.auth_nid)
  , placed_memberships AS (
    UPDATE memberships SET event_nid = placed_events.nid FROM placed_events
    WHERE memberships.room_nid = placed_events.room_nid AND memberships.user_id = placed_events.state_key
      AND memberships.event_nid = placed_events.old_nid)`
}

/** Gaps before events of the timeline and of history. */
export const insertGaps = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) =>
    placedIn(commit).filter(({ afterGap, status }) => afterGap === true && status <= EventStatus.backfilled)
  )
  if (empty) return undefined
  return part`, new_gaps AS (
    INSERT INTO timeline_gaps (nid, room_nid, xid)
    SELECT nid, room_nid, CASE status WHEN 1 THEN history_xid::xid8 ELSE (SELECT xid FROM committing) END
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${integers(rows.map((row) => row.status))}::integer[],
      ${texts(rows.map((row) => String(row.historyXid ?? 0)))}::text[]
    ) AS given (room_nid, fence, nid, status, history_xid)
    JOIN fenced USING (room_nid, fence))`
}

/** The states before back-filled events, as far as they decide who may read these. */
export const insertHistoryStates = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) =>
    placedIn(commit).flatMap(({ historyState, nid }) => (historyState === undefined ? [] : [{ nid, ...historyState }]))
  )
  if (empty) return undefined
  return part`, new_history_states AS (
    INSERT INTO history_states (nid, room_nid, chain, seq)
    SELECT nid, room_nid, chain, seq
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.chain))}::bigint[],
      ${integers(rows.map((row) => row.seq))}::integer[]
    ) AS given (room_nid, fence, nid, chain, seq)
    JOIN fenced USING (room_nid, fence))`
}

export const removeGaps = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ closedGaps = [] }) => closedGaps)
  if (empty) return undefined
  return part`, closed_gaps AS (
    DELETE FROM timeline_gaps
    USING unnest(${rooms}::bigint[], ${fences}::bigint[], ${bigints(rows)}::bigint[]) AS given (room_nid, fence, nid)
    JOIN fenced USING (room_nid, fence)
    WHERE timeline_gaps.nid = given.nid)`
}
