/**
 * The part of the commit statement that writes events: new ones, auth edges, outliers that are placed in the graph, redacted ones, and the
 * gaps between events of the timeline.
 */
import { EventStatus } from "../../RoomCommit.ts"
import { given, withRows, writingRows } from "./commitRows.ts"
import { placedIn, relatesTo } from "./describedEvents.ts"

export const insertEvents = writingRows(({ events }) => events, {
  columns: {
    nid: ["bigint", ({ logged }) => logged.nid],
    event_id: ["text", ({ logged }) => logged.event.event_id],
    type: ["text", ({ logged }) => logged.event.type],
    sender: ["text", ({ logged }) => logged.event.sender],
    depth: ["bigint", ({ logged }) => logged.event.depth],
    state_chain: ["bigint", ({ logged }) => logged.stateBefore?.chain ?? null],
    state_seq: ["integer", ({ logged }) => logged.stateBefore?.seq ?? null],
    status: ["integer", ({ logged }) => logged.status],
    notifies: ["boolean", ({ push }) => push.notifies],
    highlights: ["boolean", ({ push }) => push.highlights],
    notify_offset: ["integer", ({ notifyOffset }) => notifyOffset],
    body: ["text", ({ body }) => body]
  },
  sparse: [
    {
      state_key: ["text", ({ logged }) => logged.event.state_key ?? null],
      after_chain: ["bigint", ({ logged }) => logged.stateAfter?.chain ?? null],
      after_seq: ["integer", ({ logged }) => logged.stateAfter?.seq ?? null]
    },
    {
      relates_to: ["text", relatesTo],
      rel_type: ["text", ({ relation }) => relation?.relType ?? null],
      thread_id: ["text", ({ threadId }) => threadId ?? null]
    },
    { history_xid: ["bigint", ({ logged }) => logged.historyXid ?? null] }
  ],
  sql: withRows`, new_events AS (
    INSERT INTO events (
      nid, xid, room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights, notify_count, body)
    SELECT
      nid, CASE WHEN status = 1 OR nid < 0 THEN coalesce(history_xid, 0)::text::xid8 ELSE (SELECT xid FROM committing) END,
      room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights,
      CASE WHEN notify_offset > 0 THEN fenced.notified + notify_offset ELSE notify_offset - fenced.notified END, body
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

export const insertAuthEdges = writingRows(
  ({ commit: { events } }) => events.flatMap(({ authNids = [], nid }) => authNids.map((authNid) => ({ nid, authNid }))),
  {
    columns: {
      event_nid: ["bigint", (row) => row.nid],
      auth_nid: ["bigint", (row) => row.authNid]
    },
    sql: withRows`, new_auth_edges AS (
    INSERT INTO event_auth (event_nid, auth_nid)
    SELECT event_nid, auth_nid
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
  }
)

export const updateRedacted = writingRows(({ commit }) => commit.redactions, {
  columns: {
    event_id: ["text", (row) => row.event_id],
    body: ["text", (row) => JSON.stringify(row)]
  },
  sql: withRows`, redacted AS (
    UPDATE events SET body = given.body, rel_type = NULL, thread_id = NULL, notifies = false, highlights = false
    FROM ${given}
    JOIN fenced USING (room_nid, fence)
    WHERE events.event_id = given.event_id AND events.room_nid = given.room_nid
    RETURNING events.nid)
  , unfound AS (DELETE FROM event_search USING redacted WHERE event_search.nid = redacted.nid)
  , unmentioned AS (DELETE FROM mentions USING redacted WHERE mentions.nid = redacted.nid)
  , unnotified AS (DELETE FROM push_actions USING redacted WHERE push_actions.nid = redacted.nid)
  , room_unnotified AS (DELETE FROM room_push_actions USING redacted WHERE room_push_actions.nid = redacted.nid)`
})

/** A de-outliered event gets a new nid; rows that reference it by its nid follow. */
export const placeOutliers = writingRows(({ commit }) => commit.placed ?? [], {
  columns: {
    old_nid: ["bigint", (row) => row.outlierNid],
    nid: ["bigint", (row) => row.nid],
    state_chain: ["bigint", (row) => row.stateBefore?.chain ?? null],
    state_seq: ["integer", (row) => row.stateBefore?.seq ?? null],
    after_chain: ["bigint", (row) => row.stateAfter?.chain ?? null],
    after_seq: ["integer", (row) => row.stateAfter?.seq ?? null],
    status: ["integer", (row) => row.status],
    history_xid: ["bigint", (row) => row.historyXid ?? 0]
  },
  sql: withRows`, placements AS (
    SELECT given.* FROM ${given}
    JOIN fenced USING (room_nid, fence))
  , placed_events AS (
    UPDATE events SET
      nid = placements.nid, status = placements.status,
      xid = CASE WHEN placements.status = 1 OR placements.nid < 0 THEN placements.history_xid::text::xid8
        ELSE (SELECT xid FROM committing) END,
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
})

const mayFollowGap: ReadonlySet<EventStatus> = new Set([
  EventStatus.timeline,
  EventStatus.backfilled,
  EventStatus.withheld
])

/** Gaps before events of the timeline and of history. */
export const insertGaps = writingRows(
  ({ commit }) => placedIn(commit).filter(({ afterGap, status }) => afterGap === true && mayFollowGap.has(status)),
  {
    columns: {
      nid: ["bigint", (row) => row.nid],
      status: ["integer", (row) => row.status],
      history_xid: ["bigint", (row) => row.historyXid ?? 0]
    },
    sql: withRows`, new_gaps AS (
    INSERT INTO timeline_gaps (nid, room_nid, xid)
    SELECT nid, room_nid, CASE WHEN status = 1 OR nid < 0 THEN history_xid::text::xid8 ELSE (SELECT xid FROM committing) END
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
  }
)

/** The states before back-filled events, as far as they decide who may read these. */
export const insertHistoryStates = writingRows(
  ({ commit }) =>
    placedIn(commit).flatMap(({ historyState, nid }) => (historyState === undefined ? [] : [{ nid, ...historyState }])),
  {
    columns: {
      nid: ["bigint", (row) => row.nid],
      chain: ["bigint", (row) => row.chain],
      seq: ["integer", (row) => row.seq]
    },
    sql: withRows`, new_history_states AS (
    INSERT INTO history_states (nid, room_nid, chain, seq)
    SELECT nid, room_nid, chain, seq
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
  }
)

export const removeGaps = writingRows(({ commit: { closedGaps = [] } }) => closedGaps, {
  columns: {
    nid: ["bigint", (value) => value]
  },
  sql: withRows`, closed_gaps AS (
    DELETE FROM timeline_gaps
    USING ${given}
    JOIN fenced USING (room_nid, fence)
    WHERE timeline_gaps.nid = given.nid)`
})
