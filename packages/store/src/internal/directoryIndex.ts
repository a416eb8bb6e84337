/**
 * Brings entries of the user directory up to date with memberships and profiles, in batches.
 *
 * A user of this server has one entry, made of the public part of the profile. A user of another server has one with the
 * name of the newest membership in a room that shows its members, and one for each other room that is shared, whose name
 * stays among its members.
 */
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { bigints, booleans, texts } from "../PgArrays.ts"
import { parentOf } from "../StateStore.ts"
import { directoryWords } from "./directoryWords.ts"

/** How many members one transaction brings up to date. */
const batchSize = 500
/** How many rooms one transaction brings up to date. */
const roomBatchSize = 25
/** The longest name and avatar of an entry, in UTF-16 code units. */
const maxName = 512
const maxAvatar = 1_024

/** "userdir" in the bytes of ASCII: the advisory lock of the one transaction that writes entries. */
const directoryLock = 0x75736572646972n

interface Member {
  readonly roomNid: number
  readonly userId: string
}

interface Entry extends Member {
  readonly shown: boolean
  readonly displayname: string | null
  readonly avatarUrl: string | null
}

const textOf = (value: unknown, longest: number): string | null =>
  typeof value === "string" ? value.slice(0, longest).toWellFormed().replaceAll("\0", "\u{fffd}") : null

const parsed = (json: string | null): unknown => (json === null ? undefined : JSON.parse(json))

const entryOf = (member: Member, shown: boolean, displayname: unknown, avatarUrl: unknown): Entry => ({
  ...member,
  shown,
  displayname: textOf(displayname, maxName),
  avatarUrl: textOf(avatarUrl, maxAvatar)
})

/** The entry that a membership of a user of another server gives. */
const entryOfMember = (member: Member, shown: boolean, body: string): Entry => {
  const { content } = JSON.parse(body) as Event
  return entryOf(member, shown, content.displayname, content.avatar_url)
}

type Read<A> = Effect.Effect<A, SqlError.SqlError>

/** Whether a room from before the directory shows its members: as its current state says. */
const decideRoom = (sql: SqlClient.SqlClient, roomNid: number) =>
  Effect.gen(function* () {
    const state = yield* sql<{ type: string; body: string | null }>`
      WITH RECURSIVE part (chain, seq, level) AS (
        SELECT current_chain, current_seq, 0 FROM rooms WHERE room_nid = ${roomNid} AND shows_members IS NULL
        UNION ALL
        SELECT parent.chain, parent.seq, level + 1 FROM part ${sql.literal(parentOf("part"))}
      )
      SELECT DISTINCT ON (delta.type) delta.type, events.body
      FROM part JOIN state_deltas delta ON delta.chain = part.chain AND delta.seq <= part.seq
      LEFT JOIN events ON events.nid = delta.event_nid
      WHERE delta.state_key = '' AND delta.type IN ('m.room.join_rules', 'm.room.history_visibility')
      ORDER BY delta.type, part.level, delta.seq DESC`
    const isOpen = state.some(({ body }) => {
      const content = body === null ? undefined : (JSON.parse(body) as Event).content
      return content?.join_rule === "public" || content?.history_visibility === "world_readable"
    })
    yield* sql`
      UPDATE rooms SET shows_members = ${isOpen} AND EXISTS (
        SELECT FROM memberships JOIN users USING (user_id)
        WHERE memberships.room_nid = rooms.room_nid AND membership = 'join')
      WHERE room_nid = ${roomNid} AND shows_members IS NULL`
  })

/** The entries of users of this server. */
const ownEntries = (sql: SqlClient.SqlClient, userIds: ReadonlyArray<string>): Read<ReadonlyArray<Entry>> =>
  Effect.map(
    sql<{ user_id: string; shown: boolean; displayname: string | null; avatar_url: string | null }>`
      SELECT users.user_id, name.value AS displayname, avatar.value AS avatar_url, EXISTS (
        SELECT FROM memberships JOIN rooms USING (room_nid)
        WHERE memberships.user_id = users.user_id AND membership = 'join' AND shows_members) AS shown
      FROM users
      LEFT JOIN profile_fields name
        ON name.user_id = users.user_id AND name.field = 'displayname' AND name.visibility = 'public'
      LEFT JOIN profile_fields avatar
        ON avatar.user_id = users.user_id AND avatar.field = 'avatar_url' AND avatar.visibility = 'public'
      WHERE users.user_id = ANY (${texts(userIds)}::text[]) AND deactivated_at IS NULL`,
    (rows) =>
      rows.map(({ avatar_url, displayname, shown, user_id }) =>
        entryOf({ roomNid: 0, userId: user_id }, shown, parsed(displayname), parsed(avatar_url))
      )
  )

/** The entries of users of other servers that everybody sees. */
const shownEntries = (sql: SqlClient.SqlClient, userIds: ReadonlyArray<string>): Read<ReadonlyArray<Entry>> =>
  Effect.map(
    sql<{ user_id: string; body: string }>`
      SELECT remote.user_id, events.body FROM (
        SELECT user_id FROM unnest(${texts(userIds)}::text[]) AS given (user_id)
        WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = given.user_id) OFFSET 0
      ) AS remote CROSS JOIN LATERAL (
        SELECT event_nid FROM memberships JOIN rooms USING (room_nid)
        WHERE memberships.user_id = remote.user_id AND membership = 'join' AND shows_members
        ORDER BY event_nid DESC LIMIT 1
      ) AS newest JOIN events ON events.nid = newest.event_nid`,
    (rows) => rows.map(({ body, user_id }) => entryOfMember({ roomNid: 0, userId: user_id }, true, body))
  )

const given = (sql: SqlClient.SqlClient, members: ReadonlyArray<Member>) => sql`unnest(
  ${bigints(members.map(({ roomNid }) => roomNid))}::bigint[], ${texts(members.map(({ userId }) => userId))}::text[]
) AS given (room_nid, user_id)`

/** The entries of users of other servers that members of a room see. */
const hiddenEntries = (sql: SqlClient.SqlClient, members: ReadonlyArray<Member>): Read<ReadonlyArray<Entry>> =>
  Effect.map(
    sql<{ room_nid: bigint; user_id: string; body: string }>`
      SELECT memberships.room_nid, memberships.user_id, events.body
      FROM ${given(sql, members)} JOIN memberships USING (room_nid, user_id) JOIN rooms USING (room_nid)
      JOIN events ON events.nid = memberships.event_nid
      WHERE membership = 'join' AND shows_members IS NOT TRUE
        AND NOT EXISTS (SELECT FROM users WHERE users.user_id = memberships.user_id)`,
    (rows) =>
      rows.map(({ body, room_nid, user_id }) =>
        entryOfMember({ roomNid: Number(room_nid), userId: user_id }, false, body)
      )
  )

/** Writes entries, and removes those of the members that have none any more. */
const write = (sql: SqlClient.SqlClient, members: ReadonlyArray<Member>, entries: ReadonlyArray<Entry>) => sql`
  WITH entry AS (
    SELECT user_id, room_nid, shown, displayname, avatar_url, words FROM unnest(
      ${texts(entries.map(({ userId }) => userId))}::text[], ${bigints(entries.map(({ roomNid }) => roomNid))}::bigint[],
      ${booleans(entries.map(({ shown }) => shown))}::boolean[],
      ${texts(entries.map(({ displayname }) => displayname))}::text[],
      ${texts(entries.map(({ avatarUrl }) => avatarUrl))}::text[],
      ${texts(entries.map(({ displayname, userId }) => directoryWords(userId, displayname)))}::text[]
    ) AS entry (user_id, room_nid, shown, displayname, avatar_url, words)
  ), removed AS (
    DELETE FROM user_directory old USING ${given(sql, members)}
    WHERE old.user_id = given.user_id AND old.room_nid = given.room_nid AND NOT EXISTS (
      SELECT FROM entry WHERE entry.user_id = old.user_id AND entry.room_nid = old.room_nid)
  )
  INSERT INTO user_directory AS old (user_id, room_nid, shown, displayname, avatar_url, words)
  SELECT user_id, room_nid, shown, displayname, avatar_url, array_to_tsvector(string_to_array(words, ' ')) FROM entry
  ON CONFLICT (user_id, room_nid) DO UPDATE SET
    shown = excluded.shown, displayname = excluded.displayname, avatar_url = excluded.avatar_url, words = excluded.words
  WHERE (old.shown, old.displayname, old.avatar_url) IS DISTINCT FROM
    (excluded.shown, excluded.displayname, excluded.avatar_url)`

const update = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, members: ReadonlyArray<Member>) {
  const userIds = [...new Set(members.map(({ userId }) => userId))]
  const entries = yield* Effect.all([
    ownEntries(sql, userIds),
    shownEntries(sql, userIds),
    hiddenEntries(
      sql,
      members.filter(({ roomNid }) => roomNid !== 0)
    )
  ])
  const concerned = new Map<string, Member>()
  for (const { roomNid, userId } of members) {
    for (const member of [
      { roomNid, userId },
      { roomNid: 0, userId }
    ]) {
      concerned.set(`${member.roomNid} ${userId}`, member)
    }
  }
  yield* write(sql, [...concerned.values()], entries.flat())
})

/** Members that are queued more than once come once. */
const distinctMembers = (rows: ReadonlyArray<{ readonly room_nid: bigint; readonly user_id: string }>) =>
  [...new Map(rows.map((row) => [`${row.room_nid} ${row.user_id}`, row])).values()].map(
    ({ room_nid, user_id }): Member => ({ roomNid: Number(room_nid), userId: user_id })
  )

const indexUsers = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const rows = yield* sql<{ id: bigint; room_nid: bigint; user_id: string }>`
    SELECT id, room_nid, user_id FROM user_directory_queue ORDER BY id LIMIT ${batchSize}`
  if (rows.length === 0) return true
  yield* update(sql, distinctMembers(rows))
  yield* sql`DELETE FROM user_directory_queue WHERE id = ANY (${bigints(rows.map(({ id }) => Number(id)))}::bigint[])`
  return rows.length < batchSize
})

interface QueuedRoom {
  readonly id: bigint
  readonly room_nid: bigint
  readonly after_user: string
  readonly undecided: boolean
}

/** Rooms that changed last come first: those from before the directory wait for them. */
const indexRooms = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const rooms = yield* sql<QueuedRoom>`
    SELECT queue.*, rooms.room_nid IS NOT NULL AND shows_members IS NULL AS undecided
    FROM user_directory_room_queue queue LEFT JOIN rooms USING (room_nid) ORDER BY id DESC LIMIT ${roomBatchSize}`
  if (rooms.length === 0) return true
  for (const { room_nid, undecided } of rooms) if (undecided) yield* decideRoom(sql, Number(room_nid))
  const rows = yield* sql<{ id: bigint; room_nid: bigint; user_id: string }>`
    SELECT given.id, given.room_nid, member.user_id
    FROM unnest(
      ${bigints(rooms.map(({ id }) => Number(id)))}::bigint[], ${bigints(rooms.map(({ room_nid }) => Number(room_nid)))}::bigint[],
      ${texts(rooms.map(({ after_user }) => after_user))}::text[]
    ) WITH ORDINALITY AS given (id, room_nid, after_user, ordinal) CROSS JOIN LATERAL (
      SELECT user_id FROM memberships WHERE memberships.room_nid = given.room_nid AND user_id > given.after_user
      ORDER BY user_id LIMIT ${batchSize}) AS member
    ORDER BY given.ordinal, member.user_id LIMIT ${batchSize}`
  yield* update(sql, distinctMembers(rows))
  const last = rows.length < batchSize ? undefined : rows.at(-1)
  const done = last === undefined ? rooms : rooms.filter(({ id }) => id > last.id)
  yield* sql`DELETE FROM user_directory_room_queue WHERE id = ANY (${bigints(done.map(({ id }) => Number(id)))}::bigint[])`
  if (last !== undefined) {
    yield* sql`UPDATE user_directory_room_queue SET after_user = ${last.user_id} WHERE id = ${last.id}`
  }
  return false
})

/**
 * Brings the next batch up to date; true if there is nothing more. One transaction in the cluster at a time does so: an
 * older reading never overwrites a newer one. A batch that is lost in a crash is done again.
 */
export const makeDirectoryIndex = (sql: SqlClient.SqlClient): Effect.Effect<boolean> => {
  const isEmpty = Effect.map(
    sql<{ empty: boolean }>`
      SELECT NOT EXISTS (SELECT FROM user_directory_queue) AND NOT EXISTS (SELECT FROM user_directory_room_queue) AS empty`,
    ([row]) => row?.empty === true
  )
  const batch = Effect.gen(function* () {
    yield* sql`SELECT pg_advisory_xact_lock(${directoryLock}), set_config('synchronous_commit', 'off', true)`
    const users = yield* indexUsers(sql)
    return users && (yield* indexRooms(sql))
  })
  return Effect.orDie(Effect.flatMap(isEmpty, (empty) => (empty ? Effect.succeed(true) : sql.withTransaction(batch))))
}
