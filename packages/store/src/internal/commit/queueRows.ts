/**
 * The part of the commit statement that writes what follows from events: answers to requests with transaction IDs, and the queues
 * of other servers, of the search index, and of the user directory.
 */
import { EventStatus, type RoomCommit } from "../../RoomCommit.ts"
import { searchableKeys } from "../searchableTypes.ts"
import { given, withRows, writingRows } from "./commitRows.ts"
import { placedIn } from "./describedEvents.ts"

export const insertTransactions = writingRows(({ commit }) => commit.transactions, {
  columns: {
    token_id: ["bigint", (row) => row.tokenId],
    scope: ["text", (row) => row.scope],
    txn_id: ["text", (row) => row.txnId],
    response: ["text", (row) => row.response]
  },
  sql: withRows`, new_transactions AS (
    INSERT INTO client_transactions (token_id, scope, txn_id, response, created_at)
    SELECT token_id, scope, txn_id, response, extract(epoch FROM now()) * 1000
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

export const insertOutgoing = writingRows(({ commit }) => commit.outgoing, {
  columns: {
    destination: ["text", (row) => row.destination],
    event_nid: ["bigint", (row) => row.nid]
  },
  sql: withRows`, new_outgoing AS (
    INSERT INTO outgoing_pdus (destination, event_nid)
    SELECT destination, event_nid
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

/** History comes below what the search index has read of the log: it waits to be indexed by itself. */
export const queueForSearch = writingRows(
  ({ commit }) =>
    placedIn(commit).filter(({ event, status }) => status === EventStatus.backfilled && searchableKeys.has(event.type)),
  {
    columns: {
      nid: ["bigint", (row) => row.nid]
    },
    sql: withRows`, queued_for_search AS (
    INSERT INTO search_queue (nid)
    SELECT nid FROM ${given}
    JOIN fenced USING (room_nid, fence)
    ON CONFLICT DO NOTHING)`
  }
)

/** With more changed memberships than this the whole room is queued for the user directory. */
const maxQueuedMembers = 100

const queuesRoom = ({ changesDirectory = false, memberships }: RoomCommit): boolean =>
  changesDirectory || memberships.length > maxQueuedMembers

/** The user directory follows memberships. */
export const queueUsersForDirectory = writingRows(({ commit }) => (queuesRoom(commit) ? [] : commit.memberships), {
  columns: {
    user_id: ["text", ({ userId }) => userId]
  },
  sql: withRows`, users_for_directory AS (
    INSERT INTO user_directory_queue (room_nid, user_id)
    SELECT DISTINCT room_nid, user_id FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})

/** It also follows rooms that begin or cease to show their members. */
export const queueRoomsForDirectory = writingRows(({ commit }) => (queuesRoom(commit) ? [commit] : []), {
  columns: {},
  sql: withRows`, rooms_for_directory AS (
    INSERT INTO user_directory_room_queue (room_nid)
    SELECT DISTINCT room_nid FROM ${given}
    JOIN fenced USING (room_nid, fence))`
})
