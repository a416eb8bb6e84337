/**
 * The statement by which the event log commits what rooms have changed: one statement, one transaction, one round trip for
 * a whole batch. Each part inserts the rows of one table for all rooms of the batch; the files beside this one have the parts. Where events
 * relate to others, the threads of these are read before, in a round trip of its own.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { textArrayLiteral, texts } from "../../PgArrays.ts"
import type { RoomCommit } from "../../RoomCommit.ts"
import { announcementChannel, announcementOf } from "../logAnnouncements.ts"
import { logChannel } from "../logNotifications.ts"
import { given, withRows, writing } from "./commitRows.ts"
import { describe, type Writer } from "./describedEvents.ts"
import {
  insertAuthEdges,
  insertEvents,
  insertGaps,
  insertHistoryStates,
  placeOutliers,
  removeGaps,
  updateRedacted
} from "./eventRows.ts"
import { threadsOf } from "./eventThreads.ts"
import { insertMentions, insertPushActions, insertRoomPushActions } from "./pushRows.ts"
import {
  insertOutgoing,
  insertTransactions,
  queueForSearch,
  queueRoomsForDirectory,
  queueUsersForDirectory
} from "./queueRows.ts"
import { type Part, part, textOf, valuesOf } from "./statementParts.ts"
import { insertChains, insertDeltas, insertMembershipChanges, insertMemberships } from "./stateRows.ts"

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
  /** The name under which this node announces rows; absent if no other node is known. */
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
  const { described, writers } = describe(commits, yield* threadsOf(sql, commits))
  const bodies = described.flatMap(({ events }) => events.map(({ body }) => body))
  const announced = announcer === undefined ? [] : announcementOf(commits, bodies)
  const parts = [
    part`WITH committing AS MATERIALIZED (SELECT log_xid() AS xid)`,
    updateRooms(writers),
    insertEvents(described),
    insertChains(described),
    insertDeltas(described),
    insertMemberships(described),
    insertMembershipChanges(described),
    insertTransactions(described),
    insertOutgoing(described),
    updateRedacted(described),
    placeOutliers(described),
    insertAuthEdges(described),
    insertMentions(described),
    insertPushActions(described),
    insertRoomPushActions(described),
    queueForSearch(described),
    insertGaps(described),
    removeGaps(described),
    insertHistoryStates(described),
    queueUsersForDirectory(described),
    queueRoomsForDirectory(described),
    part` SELECT (SELECT xid FROM committing)::text AS xid, room_nid, fence`,
    announced.length > 0 ? announce(announcer!, announced, writers.length) : undefined,
    wakesOthers ? notifyFollowers() : undefined,
    part` FROM fenced`
  ].filter((part): part is Part => part !== undefined)
  const rows = yield* sql.unsafe<{ xid: string; room_nid: bigint; fence: bigint }>(textOf(parts), valuesOf(parts))
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
const notifyFollowers = () => part`, (SELECT pg_notify(${logChannel}, (SELECT xid FROM committing)::text))::text`

/** Tells other nodes the rows, where no room was refused. Before they are woken: columns are computed from left to right. */
const announce = (announcer: string, announced: ReadonlyArray<string>, rooms: number) => part`, (
  SELECT count(pg_notify(${announcementChannel}, ${announcer}::text || ' ' || (SELECT xid FROM committing)::text || ${` ${announced.length} `}::text || part)::text)
  FROM unnest(${texts(announced)}::text[]) AS part WHERE (SELECT count(*) FROM fenced) = ${String(rooms)}::bigint)`

const writeRooms = writing<Writer>({
  columns: {
    forward_extremities: ["text", ({ last }) => textArrayLiteral(last.summary.forwardExtremities)],
    chain: ["bigint", ({ last }) => last.summary.currentState?.chain ?? null],
    seq: ["integer", ({ last }) => last.summary.currentState?.seq ?? null],
    joined_members: ["integer", ({ last }) => last.summary.joinedMembers],
    joined_depth: ["bigint", ({ last }) => last.summary.joinedDepth ?? 0],
    notifying: ["integer", ({ notifying }) => notifying],
    latest_nid: ["bigint", ({ latestNid }) => latestNid]
  },
  sparse: [
    { name: ["text", ({ last }) => last.summary.name], topic: ["text", ({ last }) => last.summary.topic] },
    {
      visibility: ["text", ({ last }) => last.summary.visibility ?? null],
      shows_members: ["boolean", ({ last }) => last.summary.showsMembers ?? null]
    }
  ],
  sql: withRows`, fenced AS (
  UPDATE rooms SET
    forward_extremities = given.forward_extremities::text[],
    current_chain = given.chain, current_seq = given.seq,
    name = given.name, topic = given.topic, joined_members = given.joined_members,
    joined_depth = given.joined_depth, notify_count = rooms.notify_count + given.notifying,
    visibility = coalesce(given.visibility, rooms.visibility),
    shows_members = coalesce(given.shows_members, rooms.shows_members),
    latest_xid = CASE WHEN given.latest_nid IS NULL THEN rooms.latest_xid ELSE (SELECT xid FROM committing) END,
    latest_nid = coalesce(given.latest_nid, rooms.latest_nid)
  FROM ${given}
  WHERE rooms.room_nid = given.room_nid AND rooms.fence = given.fence
  RETURNING rooms.room_nid, rooms.fence, rooms.notify_count - given.notifying AS notified)`
})

const updateRooms = (writers: ReadonlyArray<Writer>): Part =>
  writeRooms({
    rooms: writers.map(({ last }) => last.roomNid),
    fences: writers.map(({ last }) => last.fence),
    rows: writers
  })
