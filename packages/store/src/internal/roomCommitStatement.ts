/**
 * The statement by which the event log commits what rooms have changed: one statement, one transaction, one round trip for
 * a whole batch. Each part inserts the rows of one table for all rooms of the batch.
 */

import {
  type DefaultPush,
  defaultPush,
  mentionedBy,
  type Relation,
  relationOf,
  threadOf
} from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, isEventId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { bigints, booleans, integers, textArrayLiteral, texts } from "../PgArrays.ts"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../RoomCommit.ts"
import { deltaColumns } from "../StateStore.ts"
import { announcementChannel, announcementOf } from "./logAnnouncements.ts"
import { logChannel } from "./logNotifications.ts"
import { searchableKeys } from "./searchableTypes.ts"

interface Committed {
  readonly xid: number
  /** The fences of the rooms that were not left out. */
  readonly fenced: ReadonlyMap<number, number>
  /** The length of all events. */
  readonly characters: number
}

/** The notification of other nodes about a commit. */
export interface Notifying {
  /** Whether other nodes may follow the log. */
  readonly wakesOthers: boolean
  /** The name under which this node announces rows; absent where no other node is known. */
  readonly announcer?: string
}

/**
 * Commits everything in one statement, which is one transaction and one round trip. Rooms whose fence has moved on are
 * left out, with all that belongs to them.
 */
export const commitStatement = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  commits: ReadonlyArray<RoomCommit>,
  { announcer, wakesOthers }: Notifying
): Effect.fn.Return<Committed, SqlError.SqlError> {
  const bodies = bodiesOf(commits)
  const rooms = [...new Map(commits.map((commit) => [`${commit.roomNid}/${commit.fence}`, commit])).values()]
  const { described, notifying } = describe(commits)
  const announced = announcer === undefined ? [] : announcementOf(commits, bodies)
  const rows = yield* sql<{ xid: string; room_nid: bigint; fence: bigint }>`
    WITH committing AS MATERIALIZED (SELECT log_xid() AS xid)
    , fenced AS (${updateRooms(sql, rooms, notifying, latestEvents(commits))})
    , new_events AS (${insertEvents(sql, described, bodies)})
    ${insertState(sql, commits)} ${insertMemberships(sql, commits)} ${insertTransactions(sql, commits)}
    ${insertOutgoing(sql, commits)} ${updateRedacted(sql, commits)} ${placeOutliers(sql, commits)}
    ${insertAuthEdges(sql, commits)} ${insertMentions(sql, described)} ${insertPushActions(sql, commits)}
    ${insertRoomPushActions(sql, commits)} ${queueForSearch(sql, commits)}
    ${insertGaps(sql, commits)} ${removeGaps(sql, commits)} ${queueForDirectory(sql, commits)}
    SELECT (SELECT xid FROM committing)::text AS xid, room_nid, fence
      ${announced.length > 0 ? announce(sql, announcer!, announced, rooms.length) : sql.literal("")}
      ${wakesOthers ? notifyFollowers(sql) : sql.literal("")}
    FROM fenced`
  return {
    xid: Number(rows[0]?.xid ?? 0),
    characters: bodies.reduce((sum, { length }) => sum + length, 0),
    fenced: new Map(rows.map((row) => [Number(row.room_nid), Number(row.fence)]))
  }
})

/**
 * A scalar subquery without references runs once, with the first row, and not at all if every room was refused. `committing` has
 * the number of the transaction, which costs as much as some rows.
 */
const notifyFollowers = (sql: SqlClient.SqlClient) =>
  sql`, (SELECT pg_notify(${logChannel}, (SELECT xid FROM committing)::text))::text`

/** Tells other nodes the rows, where no room was refused. Before they are woken: columns are computed from left to right. */
const announce = (sql: SqlClient.SqlClient, announcer: string, parts: ReadonlyArray<string>, rooms: number) => sql`, (
  SELECT count(pg_notify(${announcementChannel}, ${announcer}::text || ' ' || (SELECT xid FROM committing)::text || ${` ${parts.length} `}::text || part)::text)
  FROM unnest(${texts(parts)}::text[]) AS part WHERE (SELECT count(*) FROM fenced) = ${String(rooms)}::bigint)`

const writerOf = ({ fence, roomNid }: Pick<RoomCommit, "fence" | "roomNid">): string => `${roomNid}/${fence}`

/** The columns of an event beside its body. */
interface Described {
  readonly logged: LoggedEvent
  readonly push: DefaultPush
  readonly relation: Relation | undefined
  readonly threadId: EventId | undefined
  /**
   * Events of the main timeline that notify members are numbered, counted from what the room had before the batch. -1 - n
   * of another one in the timeline: it comes after n numbered ones. Null outside the timeline.
   */
  readonly notifyOffset: number | null
}

interface DescribedCommit {
  readonly commit: RoomCommit
  readonly events: ReadonlyArray<Described>
}

/** Describes the events of all commits, and tells how many numbered ones each writer adds. */
const describe = (commits: ReadonlyArray<RoomCommit>) => {
  const counts = new Map<string, number>()
  const described = commits.map((commit): DescribedCommit => {
    if (commit.events.length === 0) return { commit, events: [] }
    const writer = writerOf(commit)
    let count = counts.get(writer) ?? 0
    const events = commit.events.map((logged): Described => {
      const relation = relationOf(logged.event)
      const threadId = relation?.relType === "m.thread" ? relation.eventId : undefined
      const push = defaultPush(logged.event, logged.push?.mentionsRoom ?? false, relation)
      const inTimeline = logged.status === EventStatus.timeline
      const isNumbered = inTimeline && push.notifies && threadId === undefined
      if (isNumbered) count++
      return { logged, push, relation, threadId, notifyOffset: !inTimeline ? null : isNumbered ? count : -1 - count }
    })
    counts.set(writer, count)
    return { commit, events }
  })
  return { described, notifying: counts }
}

/** The number of the last event that each writer adds to the timeline. */
const latestEvents = (commits: ReadonlyArray<RoomCommit>): ReadonlyMap<string, number> => {
  const latest = new Map<string, number>()
  for (const { events, fence, placed = [], roomNid } of commits) {
    let last = 0
    for (const { nid, status } of events) if (status === EventStatus.timeline && nid > last) last = nid
    for (const { nid, status } of placed) if (status === EventStatus.timeline && nid > last) last = nid
    if (last === 0) continue
    const writer = writerOf({ roomNid, fence })
    latest.set(writer, Math.max(last, latest.get(writer) ?? 0))
  }
  return latest
}

const updateRooms = (
  sql: SqlClient.SqlClient,
  rooms: ReadonlyArray<RoomCommit>,
  notifying: ReadonlyMap<string, number>,
  latest: ReadonlyMap<string, number>
) => sql`
  UPDATE rooms SET
    forward_extremities = given.forward_extremities::text[],
    current_chain = given.chain, current_seq = given.seq,
    name = given.name, topic = given.topic, joined_members = given.joined_members,
    joined_depth = given.joined_depth, notify_count = rooms.notify_count + given.notifying,
    visibility = coalesce(given.visibility, rooms.visibility),
    shows_members = coalesce(given.shows_members, rooms.shows_members),
    latest_xid = CASE WHEN given.latest_nid IS NULL THEN rooms.latest_xid ELSE (SELECT xid FROM committing) END,
    latest_nid = coalesce(given.latest_nid, rooms.latest_nid)
  FROM unnest(
    ${bigints(rooms.map((room) => room.roomNid))}::bigint[],
    ${bigints(rooms.map((room) => room.fence))}::bigint[],
    ${texts(rooms.map((room) => textArrayLiteral(room.summary.forwardExtremities)))}::text[],
    ${bigints(rooms.map((room) => room.summary.currentState?.chain ?? null))}::bigint[],
    ${integers(rooms.map((room) => room.summary.currentState?.seq ?? null))}::integer[],
    ${texts(rooms.map((room) => room.summary.name))}::text[],
    ${texts(rooms.map((room) => room.summary.topic))}::text[],
    ${integers(rooms.map((room) => room.summary.joinedMembers))}::integer[],
    ${bigints(rooms.map((room) => room.summary.joinedDepth ?? 0))}::bigint[],
    ${texts(rooms.map((room) => room.summary.visibility ?? null))}::text[],
    ${texts(rooms.map(({ summary }) => (summary.showsMembers === undefined ? null : String(summary.showsMembers))))}::boolean[],
    ${integers(rooms.map((room) => notifying.get(writerOf(room)) ?? 0))}::integer[],
    ${bigints(rooms.map((room) => latest.get(writerOf(room)) ?? null))}::bigint[]
  ) AS given (
    room_nid, fence, forward_extremities, chain, seq, name, topic, joined_members, joined_depth, visibility,
    shows_members, notifying, latest_nid)
  WHERE rooms.room_nid = given.room_nid AND rooms.fence = given.fence
  RETURNING rooms.room_nid, rooms.fence, rooms.notify_count - given.notifying AS notified`

const noNumbers = bigints([])

/** The rows of all commits of one kind, with the room and fence that each belongs to. */
const collect = <Of, A>(
  all: ReadonlyArray<Of>,
  commitOf: (of: Of) => RoomCommit,
  rows: (of: Of) => ReadonlyArray<A>
) => {
  const flat: Array<A> = []
  const rooms: Array<number> = []
  const fences: Array<number> = []
  for (const of of all) {
    const { fence, roomNid } = commitOf(of)
    for (const row of rows(of)) {
      flat.push(row)
      rooms.push(roomNid)
      fences.push(fence)
    }
  }
  if (flat.length === 0) return { empty: true, rooms: noNumbers, fences: noNumbers, rows: flat }
  return { empty: false, rooms: bigints(rooms), fences: bigints(fences), rows: flat }
}

const rowsOf = <A>(commits: ReadonlyArray<RoomCommit>, rows: (commit: RoomCommit) => ReadonlyArray<A>) =>
  collect(commits, (commit) => commit, rows)

const rowsOfDescribed = <A>(
  commits: ReadonlyArray<DescribedCommit>,
  rows: (commit: DescribedCommit) => ReadonlyArray<A>
) => collect(commits, ({ commit }) => commit, rows)

/**
 * The message that feedback is about, the event that a redaction strips, or the one that a relation names, so that both
 * can be found together.
 */
const relatesTo = ({ logged: { event }, relation }: Described): string | null => {
  if (event.redacts !== undefined) return event.redacts
  if (relation !== undefined) return relation.eventId
  const target = event.content.target_event_id
  return event.type === "m.room.message.feedback" && isEventId(target) ? target : null
}

/** The bodies of the events; an event that is redacted in the same statement is never there with its content. */
const bodiesOf = (commits: ReadonlyArray<RoomCommit>): ReadonlyArray<string> => {
  const key = ({ fence, roomNid }: RoomCommit, event: Event) => `${roomNid} ${fence} ${event.event_id}`
  const redacted = new Map<string, Event>()
  for (const commit of commits) for (const event of commit.redactions) redacted.set(key(commit, event), event)
  if (redacted.size === 0) return commits.flatMap(({ events }) => events.map(({ event }) => JSON.stringify(event)))
  return commits.flatMap((commit) =>
    commit.events.map(({ event }) => JSON.stringify(redacted.get(key(commit, event)) ?? event))
  )
}

const insertEvents = (
  sql: SqlClient.SqlClient,
  commits: ReadonlyArray<DescribedCommit>,
  bodies: ReadonlyArray<string>
) => {
  const { fences, rooms, rows: described } = rowsOfDescribed(commits, ({ events }) => events)
  const rows = described.map(({ logged }) => logged)
  return sql`
    INSERT INTO events (
      nid, xid, room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights, notify_count, body)
    SELECT
      nid, CASE status WHEN 1 THEN history_xid::xid8 ELSE (SELECT xid FROM committing) END,
      room_nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights,
      CASE WHEN notify_offset > 0 THEN fenced.notified + notify_offset ELSE notify_offset - fenced.notified END, body
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${texts(rows.map((row) => row.event.event_id))}::text[],
      ${texts(rows.map((row) => row.event.type))}::text[],
      ${texts(rows.map((row) => row.event.state_key ?? null))}::text[],
      ${texts(rows.map((row) => row.event.sender))}::text[],
      ${bigints(rows.map((row) => row.event.depth))}::bigint[],
      ${bigints(rows.map((row) => row.stateBefore?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateBefore?.seq ?? null))}::integer[],
      ${bigints(rows.map((row) => row.stateAfter?.chain ?? null))}::bigint[],
      ${integers(rows.map((row) => row.stateAfter?.seq ?? null))}::integer[],
      ${integers(rows.map((row) => row.status))}::integer[],
      ${texts(described.map(relatesTo))}::text[],
      ${texts(described.map(({ relation }) => relation?.relType ?? null))}::text[],
      ${texts(described.map(({ threadId }) => threadId ?? null))}::text[],
      ${booleans(described.map(({ push }) => push.notifies))}::boolean[],
      ${booleans(described.map(({ push }) => push.highlights))}::boolean[],
      ${integers(described.map(({ notifyOffset }) => notifyOffset))}::integer[],
      ${texts(bodies)}::text[],
      ${texts(rows.map((row) => String(row.historyXid ?? 0)))}::text[]
    ) AS given (
      room_nid, fence, nid, event_id, type, state_key, sender, depth, state_chain, state_seq, after_chain, after_seq,
      status, relates_to, rel_type, thread_id, notifies, highlights, notify_offset, body, history_xid)
    JOIN fenced USING (room_nid, fence)`
}

/** The users of this server that events of the timeline mention. */
const insertMentions = (sql: SqlClient.SqlClient, commits: ReadonlyArray<DescribedCommit>) => {
  const { empty, fences, rooms, rows } = rowsOfDescribed(commits, ({ events }) =>
    events.flatMap(({ logged: { event, nid, status }, push, threadId = null }) => {
      if (status !== EventStatus.timeline || !push.mentions) return []
      return mentionedBy(event)
        .filter((userId) => userId !== event.sender)
        .map((userId) => ({ userId, nid, threadId, alone: !push.notifies }))
    })
  )
  if (empty) return sql.literal("")
  return sql`, new_mentions AS (
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
const insertPushActions = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events }) =>
    events.flatMap(({ event, nid, push }) =>
      (push?.own ?? []).map((own) => ({ ...own, nid, threadId: threadOf(event) ?? null }))
    )
  )
  if (empty) return sql.literal("")
  return sql`, new_push_actions AS (
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
const insertRoomPushActions = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events }) =>
    events.flatMap(({ event, nid, push }) =>
      push?.shared === undefined ? [] : [{ ...push.shared, nid, threadId: threadOf(event) ?? null }]
    )
  )
  if (empty) return sql.literal("")
  return sql`, new_room_push_actions AS (
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

/** History comes below what the search index has read of the log: it waits to be indexed by itself. */
const queueForSearch = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events, placed = [] }) =>
    [...events, ...placed].filter(
      ({ event, status }) => status === EventStatus.backfilled && searchableKeys[event.type] !== undefined
    )
  )
  if (empty) return sql.literal("")
  return sql`, queued_for_search AS (
    INSERT INTO search_queue (nid)
    SELECT nid FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[], ${bigints(rows.map((row) => row.nid))}::bigint[]
    ) AS given (room_nid, fence, nid)
    JOIN fenced USING (room_nid, fence)
    ON CONFLICT DO NOTHING)`
}

/** Gaps before events of the timeline and of history. */
const insertGaps = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events, placed = [] }) =>
    [...events, ...placed].filter(({ afterGap, status }) => afterGap === true && status <= EventStatus.backfilled)
  )
  if (empty) return sql.literal("")
  return sql`, new_gaps AS (
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

const removeGaps = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ closedGaps = [] }) => closedGaps)
  if (empty) return sql.literal("")
  return sql`, closed_gaps AS (
    DELETE FROM timeline_gaps
    USING unnest(${rooms}::bigint[], ${fences}::bigint[], ${bigints(rows)}::bigint[]) AS given (room_nid, fence, nid)
    JOIN fenced USING (room_nid, fence)
    WHERE timeline_gaps.nid = given.nid)`
}

const insertState = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const chains = rowsOf(commits, (commit) => commit.chains)
  const deltas = rowsOf(commits, (commit) => commit.deltas)
  const columns = deltaColumns(deltas.rows)
  const newChains = chains.empty
    ? sql.literal("")
    : sql`, new_chains AS (
        INSERT INTO state_chains (chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq)
        SELECT chain, room_nid, parent_chain, parent_seq, height, equals_chain, equals_seq
        FROM unnest(
          ${chains.rooms}::bigint[], ${chains.fences}::bigint[],
          ${bigints(chains.rows.map((row) => row.chain))}::bigint[],
          ${bigints(chains.rows.map((row) => row.parent?.chain ?? null))}::bigint[],
          ${integers(chains.rows.map((row) => row.parent?.seq ?? null))}::integer[],
          ${integers(chains.rows.map((row) => row.height))}::integer[],
          ${bigints(chains.rows.map((row) => row.equals?.chain ?? null))}::bigint[],
          ${integers(chains.rows.map((row) => row.equals?.seq ?? null))}::integer[]
        ) AS given (room_nid, fence, chain, parent_chain, parent_seq, height, equals_chain, equals_seq)
        JOIN fenced USING (room_nid, fence))`
  const newDeltas = deltas.empty
    ? sql.literal("")
    : sql`, new_deltas AS (
        INSERT INTO state_deltas (chain, type, state_key, seq, event_nid)
        SELECT chain, type, state_key, seq, event_nid
        FROM unnest(
          ${deltas.rooms}::bigint[], ${deltas.fences}::bigint[],
          ${columns.chains}::bigint[], ${columns.types}::text[], ${columns.stateKeys}::text[],
          ${columns.seqs}::integer[], ${columns.eventNids}::bigint[]
        ) AS given (room_nid, fence, chain, type, state_key, seq, event_nid)
        JOIN fenced USING (room_nid, fence))`
  return sql`${newChains} ${newDeltas}`
}

const insertMemberships = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const changes = rowsOf(commits, (commit) => commit.memberships)
  if (changes.empty) return sql.literal("")
  const local = rowsOf(commits, (commit) => commit.memberships.filter((change) => change.local))
  return sql`
    , new_memberships AS (
      INSERT INTO memberships (room_nid, user_id, membership, sender, event_nid)
      SELECT DISTINCT ON (room_nid, user_id) room_nid, user_id, membership, sender, event_nid
      FROM unnest(
        ${changes.rooms}::bigint[], ${changes.fences}::bigint[],
        ${texts(changes.rows.map((row) => row.userId))}::text[],
        ${texts(changes.rows.map((row) => row.membership))}::text[],
        ${texts(changes.rows.map((row) => row.sender))}::text[],
        ${bigints(changes.rows.map((row) => row.eventNid))}::bigint[]
      ) WITH ORDINALITY AS given (room_nid, fence, user_id, membership, sender, event_nid, place)
      JOIN fenced USING (room_nid, fence)
      ORDER BY room_nid, user_id, place DESC
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

/** With more changed memberships than this the whole room is queued for the user directory. */
const maxQueuedMembers = 100

const queuesRoom = ({ changesDirectory = false, memberships }: RoomCommit): boolean =>
  changesDirectory || memberships.length > maxQueuedMembers

/** The user directory follows memberships, and rooms that begin or cease to show their members. */
const queueForDirectory = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const users = rowsOf(commits, (commit) => (queuesRoom(commit) ? [] : commit.memberships))
  const whole = rowsOf(commits, (commit) => (queuesRoom(commit) ? [commit] : []))
  const ofUsers = users.empty
    ? sql.literal("")
    : sql`, users_for_directory AS (
        INSERT INTO user_directory_queue (room_nid, user_id)
        SELECT DISTINCT room_nid, user_id FROM unnest(
          ${users.rooms}::bigint[], ${users.fences}::bigint[], ${texts(users.rows.map(({ userId }) => userId))}::text[]
        ) AS given (room_nid, fence, user_id)
        JOIN fenced USING (room_nid, fence))`
  const ofRooms = whole.empty
    ? sql.literal("")
    : sql`, rooms_for_directory AS (
        INSERT INTO user_directory_room_queue (room_nid)
        SELECT DISTINCT room_nid FROM unnest(${whole.rooms}::bigint[], ${whole.fences}::bigint[]) AS given (room_nid, fence)
        JOIN fenced USING (room_nid, fence))`
  return sql`${ofUsers} ${ofRooms}`
}

const insertAuthEdges = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, ({ events }) =>
    events.flatMap(({ authNids = [], nid }) => authNids.map((authNid) => ({ nid, authNid })))
  )
  if (empty) return sql.literal("")
  return sql`, new_auth_edges AS (
    INSERT INTO event_auth (event_nid, auth_nid)
    SELECT event_nid, auth_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${bigints(rows.map((row) => row.nid))}::bigint[],
      ${bigints(rows.map((row) => row.authNid))}::bigint[]
    ) AS given (room_nid, fence, event_nid, auth_nid)
    JOIN fenced USING (room_nid, fence))`
}

const insertTransactions = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.transactions)
  if (empty) return sql.literal("")
  return sql`, new_transactions AS (
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

const insertOutgoing = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.outgoing)
  if (empty) return sql.literal("")
  return sql`, new_outgoing AS (
    INSERT INTO outgoing_pdus (destination, event_nid)
    SELECT destination, event_nid
    FROM unnest(
      ${rooms}::bigint[], ${fences}::bigint[],
      ${texts(rows.map((row) => row.destination))}::text[],
      ${bigints(rows.map((row) => row.nid))}::bigint[]
    ) AS given (room_nid, fence, destination, event_nid)
    JOIN fenced USING (room_nid, fence))`
}

const updateRedacted = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.redactions)
  if (empty) return sql.literal("")
  return sql`, redacted AS (
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
const placeOutliers = (sql: SqlClient.SqlClient, commits: ReadonlyArray<RoomCommit>) => {
  const { empty, fences, rooms, rows } = rowsOf(commits, (commit) => commit.placed ?? [])
  if (empty) return sql.literal("")
  return sql`, place AS (
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
      nid = place.nid, status = place.status,
      xid = CASE place.status WHEN 1 THEN place.history_xid::xid8 ELSE (SELECT xid FROM committing) END,
      state_chain = place.state_chain, state_seq = place.state_seq,
      after_chain = place.after_chain, after_seq = place.after_seq
    FROM place WHERE events.nid = place.old_nid
    RETURNING events.room_nid, events.type, events.state_key, place.old_nid, place.nid)
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
