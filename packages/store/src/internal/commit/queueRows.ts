/**
 * The part of the commit statement that writes what follows from events: answers to requests with transaction IDs, and the queues
 * of other servers, of the search index, and of the user directory.
 */
import { bigints, texts } from "../../PgArrays.ts"
import { EventStatus, type RoomCommit } from "../../RoomCommit.ts"
import { searchableKeys } from "../searchableTypes.ts"
import { placedIn, rowsOf } from "./commitRows.ts"
import { part } from "./statementParts.ts"

export const insertTransactions = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.transactions)
  if (empty) return undefined
  return part`, new_transactions AS (
    INSERT INTO client_transactions (token_id, scope, txn_id, response, created_at)
    SELECT token_id, scope, txn_id, response, extract(epoch FROM now()) * 1000
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.tokenId))}::bigint[],
      ${texts(rows.map((row) => row.scope))}::text[],
      ${texts(rows.map((row) => row.txnId))}::text[],
      ${texts(rows.map((row) => row.response))}::text[]
    ) AS given (room_nid, fence, token_id, scope, txn_id, response)
    JOIN fenced USING (room_nid, fence))`
}

export const insertOutgoing = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.outgoing)
  if (empty) return undefined
  return part`, new_outgoing AS (
    INSERT INTO outgoing_pdus (destination, event_nid)
    SELECT destination, event_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.destination))}::text[],
      ${bigints(rows.map((row) => row.nid))}::bigint[]
    ) AS given (room_nid, fence, destination, event_nid)
    JOIN fenced USING (room_nid, fence))`
}

/** History comes below what the search index has read of the log: it waits to be indexed by itself. */
export const queueForSearch = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) =>
    placedIn(commit).filter(({ event, status }) => status === EventStatus.backfilled && searchableKeys.has(event.type))
  )
  if (empty) return undefined
  return part`, queued_for_search AS (
    INSERT INTO search_queue (nid)
    SELECT nid FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[], ${bigints(rows.map((row) => row.nid))}::bigint[]
    ) AS given (room_nid, fence, nid)
    JOIN fenced USING (room_nid, fence)
    ON CONFLICT DO NOTHING)`
}

/** With more changed memberships than this the whole room is queued for the user directory. */
const maxQueuedMembers = 100

const queuesRoom = ({ changesDirectory = false, memberships }: RoomCommit): boolean =>
  changesDirectory || memberships.length > maxQueuedMembers

/** The user directory follows memberships. */
export const queueUsersForDirectory = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => (queuesRoom(commit) ? [] : commit.memberships))
  if (empty) return undefined
  return part`, users_for_directory AS (
    INSERT INTO user_directory_queue (room_nid, user_id)
    SELECT DISTINCT room_nid, user_id FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[], ${texts(rows.map(({ userId }) => userId))}::text[]
    ) AS given (room_nid, fence, user_id)
    JOIN fenced USING (room_nid, fence))`
}

/** It also follows rooms that begin or cease to show their members. */
export const queueRoomsForDirectory = (commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms } = rowsOf(commits, (commit) => (queuesRoom(commit) ? [commit] : []))
  if (empty) return undefined
  return part`, rooms_for_directory AS (
    INSERT INTO user_directory_room_queue (room_nid)
    SELECT DISTINCT room_nid FROM unnest(${rooms}::bigint[], ${fences}::bigint[]) AS given (room_nid, fence)
    JOIN fenced USING (room_nid, fence))`
}
