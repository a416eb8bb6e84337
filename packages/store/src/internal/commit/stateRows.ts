/**
 * The part of the commit statement that writes state: deltas of chains, and the memberships that they change.
 */
import { bigints, integers, texts } from "../../PgArrays.ts"
import type { RoomCommit } from "../../RoomCommit.ts"
import { deltaColumns } from "../../StateStore.ts"
import { rowsOf } from "./commitRows.ts"
import { part } from "./statementParts.ts"

export const insertChains = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ chains }) => chains)
  if (empty) return undefined
  return part`, new_chains AS (
    INSERT INTO state_chains (chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq)
    SELECT chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.chain))}::bigint[],
      ${bigints(rows.map((row) => row.parent?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.parent?.seq ?? null))}::integer[],
      ${integers(rows.map((row) => row.height))}::integer[],
      ${bigints(rows.map((row) => row.equals?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.equals?.seq ?? null))}::integer[]
    ) AS given (room_nid, fence, chain, parent_chain, parent_seq, height, equals_chain, equals_seq)
    JOIN fenced USING (room_nid, fence))`
}

export const insertDeltas = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ deltas }) => deltas)
  if (empty) return undefined
  const { chains, eventNids, seqs, stateKeys, types } = deltaColumns(rows)
  return part`, new_deltas AS (
    INSERT INTO state_deltas (chain, type, state_key, seq, event_nid)
    SELECT chain, type, state_key, seq, event_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${chains}::bigint[], ${types}::text[], ${stateKeys}::text[], ${seqs}::integer[], ${eventNids}::bigint[]
    ) AS given (room_nid, fence, chain, type, state_key, seq, event_nid)
    JOIN fenced USING (room_nid, fence))`
}

export const insertMemberships = (commits: ReadonlyArray<RoomCommit>) => {
  const changes = rowsOf(commits, (commit) => commit.memberships)
  if (changes.empty) return undefined
  const local = rowsOf(commits, (commit) => commit.memberships.filter((change) => change.local))
  return part`
    , new_memberships AS (
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      SELECT DISTINCT ON (room_nid, user_id) room_nid, user_id, membership, sender, event_nid
      FROM unnest(
        ${changes.rooms}::bigint[], ${changes.fences}::bigint[],
        ${texts(changes.rows.map((row) => row.userId))}::text[],
        ${texts(changes.rows.map((row) => row.membership))}::text[],
        ${texts(changes.rows.map((row) => row.sender))}::text[],
        ${bigints(changes.rows.map((row) => row.eventNid))}::bigint[]
      ) WITH ORDINALITY AS given (room_nid, fence, user_id, membership, sender, event_nid, ordinal)
      JOIN fenced USING (room_nid, fence)
      ORDER BY room_nid, user_id, ordinal DESC
      ON CONFLICT (room_nid, user_id) DO UPDATE
        SET membership = excluded.membership, sender = excluded.sender, event_nid = excluded.event_nid)
    , new_changes AS (
      INSERT INTO membership_changes (user_id, xid, nid, room_nid, membership)
      SELECT user_id, (SELECT xid FROM committing), nid, room_nid, membership
      FROM unnest(
        ${local.rooms}::bigint[], ${local.fences}::bigint[],
        ${texts(local.rows.map((row) => row.userId))}::text[],
        ${bigints(local.rows.map((row) => row.causedBy))}::bigint[],
        ${texts(local.rows.map((row) => row.membership))}::text[]
      ) AS given (room_nid, fence, user_id, nid, membership)
      JOIN fenced USING (room_nid, fence))`
}
