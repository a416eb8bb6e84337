/**
 * The part of the commit statement that writes which users an event notifies, where the default push rules do not say it.
 */
import { mentionedBy } from "@greenroom/protocol/client-server/Relation"
import { textArrayLiteral } from "../../PgArrays.ts"
import { EventStatus } from "../../RoomCommit.ts"
import { given, withRows, writingRows } from "./commitRows.ts"

/** The users of this server that events of the timeline mention. */
export const insertMentions = writingRows(
  ({ events }) =>
    events.flatMap(({ logged: { event, nid, status }, push, threadId = null }) => {
      if (status !== EventStatus.timeline || !push.mentions) return []
      return mentionedBy(event)
        .filter((userId) => userId !== event.sender)
        .map((userId) => ({ userId, nid, threadId, alone: !push.notifies }))
    }),
  {
    columns: {
      user_id: ["text", (row) => row.userId],
      nid: ["bigint", (row) => row.nid],
      thread_id: ["text", (row) => row.threadId],
      alone: ["boolean", (row) => row.alone]
    },
    sql: withRows`, new_mentions AS (
    INSERT INTO mentions (user_id, room_nid, xid, nid, thread_id, alone)
    SELECT given.user_id, room_nid, (SELECT xid FROM committing), nid, thread_id, alone
    FROM ${given}
    JOIN fenced USING (room_nid, fence)
    JOIN users ON users.user_id = given.user_id)`
  }
)

/** The users with push rules of their own that events notify. */
export const insertPushActions = writingRows(
  ({ events }) =>
    events.flatMap(({ logged: { nid, push }, threadId = null }) =>
      (push?.own ?? []).map((own) => ({ ...own, nid, threadId }))
    ),
  {
    columns: {
      user_id: ["text", (row) => row.userId],
      nid: ["bigint", (row) => row.nid],
      thread_id: ["text", (row) => row.threadId],
      highlight: ["boolean", (row) => row.highlight],
      actions: ["text", (row) => row.actions]
    },
    sql: withRows`, new_push_actions AS (
    INSERT INTO push_actions (user_id, room_nid, xid, nid, thread_id, highlight, actions)
    SELECT user_id, room_nid, (SELECT xid FROM committing), nid, thread_id, highlight, actions
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
  }
)

/** Events that notify most members with push rules of their own alike. */
export const insertRoomPushActions = writingRows(
  ({ events }) =>
    events.flatMap(({ logged: { nid, push }, threadId = null }) =>
      push?.shared === undefined ? [] : [{ ...push.shared, nid, threadId }]
    ),
  {
    columns: {
      nid: ["bigint", (row) => row.nid],
      thread_id: ["text", (row) => row.threadId],
      highlight: ["boolean", (row) => row.highlight],
      actions: ["text", (row) => row.actions],
      others: ["text", (row) => textArrayLiteral(row.others)]
    },
    sql: withRows`, new_room_push_actions AS (
    INSERT INTO room_push_actions (room_nid, xid, nid, thread_id, highlight, actions, others)
    SELECT room_nid, (SELECT xid FROM committing), nid, thread_id, highlight, actions, others::text[]
    FROM ${given}
    JOIN fenced USING (room_nid, fence))`
  }
)
