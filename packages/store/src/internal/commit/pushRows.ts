/**
 * The part of the commit statement that writes which users an event notifies, where the default push rules do not say it.
 */
import { mentionedBy } from "@greenroom/protocol/client-server/Relation"
import { bigints, booleans, textArrayLiteral, texts } from "../../PgArrays.ts"
import { EventStatus } from "../../RoomCommit.ts"
import { type DescribedCommit, rowsOfDescribed } from "./describedEvents.ts"
import { part } from "./statementParts.ts"

/** The users of this server that events of the timeline mention. */
export const insertMentions = (commits: ReadonlyArray<DescribedCommit>) => {
  const { empty, fences, rooms, rows } = rowsOfDescribed(commits, ({ events }) =>
    events.flatMap(({ logged: { event, nid, status }, push, threadId = null }) => {
      if (status !== EventStatus.timeline || !push.mentions) return []
      return mentionedBy(event)
        .filter((userId) => userId !== event.sender)
        .map((userId) => ({ userId, nid, threadId, alone: !push.notifies }))
    })
  )
  if (empty) return undefined
  return part`, new_mentions AS (
    INSERT INTO mentions (user_id, room_nid, xid, nid, thread_id, alone)
    SELECT given.user_id, room_nid, (SELECT xid FROM committing), nid, thread_id, alone
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.userId))}::text[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${texts(rows.map((row) => row.threadId))}::text[],
      ${booleans(rows.map((row) => row.alone))}::boolean[]
    ) AS given (room_nid, fence, user_id, nid, thread_id, alone)
    JOIN fenced USING (room_nid, fence)
    JOIN users ON users.user_id = given.user_id)`
}

/** The users with push rules of their own that events notify. */
export const insertPushActions = (commits: ReadonlyArray<DescribedCommit>) => {
  const { empty, fences, rooms, rows } = rowsOfDescribed(commits, ({ events }) =>
    events.flatMap(({ logged: { nid, push }, threadId = null }) =>
      (push?.own ?? []).map((own) => ({ ...own, nid, threadId }))
    )
  )
  if (empty) return undefined
  return part`, new_push_actions AS (
    INSERT INTO push_actions (user_id, room_nid, xid, nid, thread_id, highlight, actions)
    SELECT user_id, room_nid, (SELECT xid FROM committing), nid, thread_id, highlight, actions
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.userId))}::text[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${texts(rows.map((row) => row.threadId))}::text[],
      ${booleans(rows.map((row) => row.highlight))}::boolean[],
      ${texts(rows.map((row) => row.actions))}::text[]
    ) AS given (room_nid, fence, user_id, nid, thread_id, highlight, actions)
    JOIN fenced USING (room_nid, fence))`
}

/** Events that notify most members with push rules of their own alike. */
export const insertRoomPushActions = (commits: ReadonlyArray<DescribedCommit>) => {
  const { empty, fences, rooms, rows } = rowsOfDescribed(commits, ({ events }) =>
    events.flatMap(({ logged: { nid, push }, threadId = null }) =>
      push?.shared === undefined ? [] : [{ ...push.shared, nid, threadId }]
    )
  )
  if (empty) return undefined
  return part`, new_room_push_actions AS (
    INSERT INTO room_push_actions (room_nid, xid, nid, thread_id, highlight, actions, others)
    SELECT room_nid, (SELECT xid FROM committing), nid, thread_id, highlight, actions, others::text[]
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${texts(rows.map((row) => row.threadId))}::text[],
      ${booleans(rows.map((row) => row.highlight))}::boolean[],
      ${texts(rows.map((row) => row.actions))}::text[],
      ${texts(rows.map((row) => textArrayLiteral(row.others)))}::text[]
    ) AS given (room_nid, fence, nid, thread_id, highlight, actions, others)
    JOIN fenced USING (room_nid, fence))`
}
