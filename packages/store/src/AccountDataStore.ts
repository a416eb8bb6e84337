/**
 * Account data: values that clients store on the server, for the whole account or for one room.
 *
 * Rows carry the transaction that wrote them: the log reads what changed between two positions. An error of the database
 * is a defect. Source: "Client Config" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { counted } from "./internal/counted.ts"
import { positionSql } from "./internal/positionSql.ts"
import type { LogRange } from "./LogSlice.ts"
import { texts } from "./PgArrays.ts"

export interface AccountDataRow {
  /** Undefined for data of the account as a whole. */
  readonly roomId: RoomId | undefined
  readonly type: string
  readonly content: JsonObject
}

/** Entries of more bytes than this count against `maxLargeBytes`. */
const smallEntry = 4_096
/** A large entry is refused if all entries of the user would exceed this many bytes, because a first `/sync` returns them all. */
const maxLargeBytes = 16 * 1024 * 1024

interface Row {
  readonly room_id: string
  readonly type: string
  readonly content: string
}

interface WrittenRow {
  /** The transaction. */
  readonly xid: string
}

const toRow = ({ content, room_id, type }: Row): AccountDataRow => ({
  roomId: room_id === "" ? undefined : (room_id as RoomId),
  type,
  content: JSON.parse(content) as JsonObject
})

export class AccountDataStore extends Context.Service<
  AccountDataStore,
  {
    /** Returns false, and writes nothing, if the user would have more than `most` entries, or the entries would be too large. */
    readonly set: (
      userId: UserId,
      roomId: RoomId | undefined,
      type: string,
      content: JsonObject,
      most: number
    ) => Effect.Effect<boolean>
    /** None also for a deleted entry. */
    readonly get: (userId: UserId, roomId: RoomId | undefined, type: string) => Effect.Effect<Option.Option<JsonObject>>
    /** Entries of the whole account, by their types. */
    readonly several: (userId: UserId, types: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, JsonObject>>
    /**
     * Changes the content of one entry, or `{}` if there is none, in one transaction, so that concurrent changes are not lost. An
     * unchanged content is not written. Returns false in the cases of `set`.
     */
    readonly update: (
      userId: UserId,
      roomId: RoomId | undefined,
      type: string,
      change: (content: JsonObject) => JsonObject,
      most: number
    ) => Effect.Effect<boolean>
    /** All account data of the user, or the entries written in a part of the log, deleted ones too. */
    readonly read: (userId: UserId, range?: LogRange) => Effect.Effect<ReadonlyArray<AccountDataRow>>
    /** The user's account data of some rooms. */
    readonly ofRooms: (
      userId: UserId,
      roomIds: ReadonlyArray<RoomId>
    ) => Effect.Effect<ReadonlyArray<AccountDataRow & { readonly roomId: RoomId }>>
    /** All entries of a type that the user keeps for rooms. */
    readonly ofType: (
      userId: UserId,
      type: string
    ) => Effect.Effect<ReadonlyArray<AccountDataRow & { readonly roomId: RoomId }>>
    readonly removeAll: (userId: UserId) => Effect.Effect<void>
  }
>()("greenroom/store/AccountDataStore") {
  static readonly layer = Layer.effect(
    AccountDataStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog

      /** Whether a row was written. Readers on this node wait until the log has it. */
      const noted = (rows: ReadonlyArray<WrittenRow>): boolean => {
        if (rows[0] !== undefined) log.committed(Number(rows[0].xid))
        return rows.length > 0
      }

      /** A deleted entry keeps its row, with an empty object, so that clients which have the entry see the deletion. */
      const present = sql`content <> '{}'`

      /** Writes an entry if it fits. New and large entries must be counted, see `set`. */
      const write = (userId: UserId, roomId: RoomId | undefined, type: string, content: JsonObject, most: number) => {
        const json = JSON.stringify(content)
        const bytes = Buffer.byteLength(json)
        const isThis = sql`room_id = ${roomId ?? ""} AND type = ${type}`
        const fits =
          bytes <= smallEntry
            ? sql`true`
            : sql`(
                SELECT coalesce(sum(octet_length(content)), 0) + ${bytes}::integer FROM account_data
                WHERE user_id = ${userId} AND NOT (${isThis})) <= ${maxLargeBytes}::integer`
        return sql<WrittenRow>`
          INSERT INTO account_data (user_id, room_id, type, content)
          SELECT ${userId}, ${roomId ?? ""}, ${type}, ${json}
          WHERE ${fits} AND (
            EXISTS (SELECT 1 FROM account_data WHERE user_id = ${userId} AND ${isThis})
            OR (SELECT count(*) FROM account_data WHERE user_id = ${userId}) < ${most})
          ON CONFLICT (user_id, room_id, type) DO UPDATE
          SET content = excluded.content, xid = excluded.xid, nid = excluded.nid
          RETURNING xid::text`
      }

      const countedFor = (userId: UserId) => counted(sql)(`account_data ${userId}`, userId)

      /** A small entry that exists is written without counting. */
      const set = (userId: UserId, roomId: RoomId | undefined, type: string, content: JsonObject, most: number) => {
        const json = JSON.stringify(content)
        const replaced =
          Buffer.byteLength(json) > smallEntry
            ? Effect.succeed(false)
            : Effect.map(
                sql<WrittenRow>`
                  UPDATE account_data SET content = ${json}, xid = DEFAULT, nid = DEFAULT
                  WHERE user_id = ${userId} AND room_id = ${roomId ?? ""} AND type = ${type} RETURNING xid::text`,
                noted
              )
        const added = Effect.map(countedFor(userId)(write(userId, roomId, type, content, most)), noted)
        return Effect.orDie(Effect.flatMap(replaced, (isReplaced) => (isReplaced ? Effect.succeed(true) : added)))
      }

      const locked = (userId: UserId, roomId: RoomId | undefined, type: string) =>
        Effect.map(
          sql<{ content: string }>`
            SELECT content FROM account_data
            WHERE user_id = ${userId} AND room_id = ${roomId ?? ""} AND type = ${type} FOR UPDATE`,
          ([row]) => (row === undefined ? undefined : (JSON.parse(row.content) as JsonObject))
        )

      const unchanged = { fits: true, rows: [] }

      /** The entry is created and locked before it is changed, so that concurrent changes wait. */
      const update = Effect.fnUntraced(
        function* (
          userId: UserId,
          roomId: RoomId | undefined,
          type: string,
          change: (content: JsonObject) => JsonObject,
          most: number
        ) {
          let before = yield* locked(userId, roomId, type)
          if (before === undefined) {
            const empty = {}
            if (change(empty) === empty) return unchanged
            const isNew = yield* sql`
              INSERT INTO account_data (user_id, room_id, type, content)
              SELECT ${userId}, ${roomId ?? ""}, ${type}, '{}'
              WHERE (SELECT count(*) FROM account_data WHERE user_id = ${userId}) < ${most}
              ON CONFLICT DO NOTHING RETURNING 1`
            before = yield* locked(userId, roomId, type)
            if (before === undefined) return { fits: isNew.length > 0, rows: [] }
          }
          const after = change(before)
          if (after === before) return unchanged
          const rows = yield* write(userId, roomId, type, after, most)
          return { fits: rows.length > 0, rows }
        },
        (changed, userId) =>
          Effect.orDie(
            Effect.map(countedFor(userId)(changed), ({ fits, rows }) => {
              noted(rows)
              return fits
            })
          )
      )

      const read = (userId: UserId, range?: LogRange) =>
        sql<Row>`
          SELECT room_id, type, content FROM account_data
          WHERE user_id = ${userId} AND ${
            range === undefined
              ? present
              : sql`(xid, nid) > ${positionSql(sql, range.after)}
                    AND (xid, nid) <= ${positionSql(sql, range.upTo)}`
          }`.pipe(
          Effect.map((rows) => rows.map(toRow)),
          Effect.orDie
        )

      return AccountDataStore.of({
        set,
        get: (userId, roomId, type) =>
          sql<Row>`
            SELECT room_id, type, content FROM account_data
            WHERE user_id = ${userId} AND room_id = ${roomId ?? ""} AND type = ${type} AND ${present}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => toRow(row).content)),
            Effect.orDie
          ),
        several: (userId, types) =>
          sql<Row>`
            SELECT room_id, type, content FROM account_data
            WHERE user_id = ${userId} AND room_id = '' AND type = ANY (${texts(types)}::text[]) AND ${present}`.pipe(
            Effect.map((rows) => new Map(rows.map((row) => [row.type, toRow(row).content]))),
            Effect.orDie
          ),
        update,
        read,
        ofRooms: (userId, roomIds) =>
          roomIds.length === 0
            ? Effect.succeed([])
            : sql<Row>`
                SELECT room_id, type, content FROM account_data
                WHERE user_id = ${userId} AND room_id = ANY (${texts(roomIds)}::text[]) AND ${present}`.pipe(
                Effect.map((rows) => rows.map((row) => ({ ...toRow(row), roomId: row.room_id as RoomId }))),
                Effect.orDie
              ),
        ofType: (userId, type) =>
          sql<Row>`
            SELECT room_id, type, content FROM account_data
            WHERE user_id = ${userId} AND room_id <> '' AND type = ${type} AND ${present}`.pipe(
            Effect.map((rows) => rows.map((row) => ({ ...toRow(row), roomId: row.room_id as RoomId }))),
            Effect.orDie
          ),
        removeAll: (userId) => sql`DELETE FROM account_data WHERE user_id = ${userId}`.pipe(Effect.asVoid, Effect.orDie)
      })
    })
  )
}
