/**
 * The part of the commit statement that writes state: deltas of chains, and the memberships that they change.
 */
import { splitStateKey } from "@greenroom/room/RoomVersion"
import { given, withRows, writingRows } from "./commitRows.ts"

export const insertChains = writingRows(({ commit: { chains } }) => chains, {
  columns: {
    chain: ["bigint", (row) => row.chain],
    parent_chain: ["bigint", (row) => row.parent?.chain ?? null],
    parent_seq: ["integer", (row) => row.parent?.seq ?? null],
    height: ["integer", (row) => row.height],
    equals_chain: ["bigint", (row) => row.equals?.chain ?? null],
    equals_seq: ["integer", (row) => row.equals?.seq ?? null]
  },
  sql: withRows`, new_chains AS (
    INSERT INTO state_chains (chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq)
    SELECT chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

export const insertDeltas = writingRows(({ commit }) => commit.deltas, {
  columns: {
    chain: ["bigint", (row) => row.chain],
    type: ["text", (row) => splitStateKey(row.key)[0]],
    state_key: ["text", (row) => splitStateKey(row.key)[1]],
    seq: ["integer", (row) => row.seq],
    event_nid: ["bigint", (row) => row.eventNid]
  },
  sql: withRows`, new_deltas AS (
    INSERT INTO state_deltas (chain, type, state_key, seq, event_nid)
    SELECT chain, type, state_key, seq, event_nid
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

/** The last membership of a user in the batch counts. */
export const insertMemberships = writingRows(({ commit }) => commit.memberships, {
  columns: {
    user_id: ["text", (row) => row.userId],
    membership: ["text", (row) => row.membership],
    sender: ["text", (row) => row.sender],
    event_nid: ["bigint", (row) => row.eventNid],
    ordinal: ["integer", (_row, index) => index]
  },
  sql: withRows`, new_memberships AS (
    INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
    SELECT DISTINCT ON (room_nid, user_id) room_nid, user_id, membership, sender, event_nid
    FROM ${given}
    JOIN fenced USING (room_nid, fence)
    ORDER BY room_nid, user_id, ordinal DESC
    ON CONFLICT (room_nid, user_id) DO UPDATE
      SET membership = excluded.membership, sender = excluded.sender, event_nid = excluded.event_nid)`
})

/** Only changes of users of this server are kept in the order of the stream. */
export const insertMembershipChanges = writingRows(({ commit }) => commit.memberships.filter(({ local }) => local), {
  columns: {
    user_id: ["text", (row) => row.userId],
    nid: ["bigint", (row) => row.causedBy],
    membership: ["text", (row) => row.membership]
  },
  sql: withRows`, new_changes AS (
    INSERT INTO membership_changes (user_id, xid, nid, room_nid, membership)
    SELECT user_id, (SELECT xid FROM committing), nid, room_nid, membership
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})
