/**
 * Rooms as rows: opening one for writing, and queries of rooms and memberships without waking their actors.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { asynchronousCommit } from "./internal/asynchronousCommit.ts"
import {
  type EndOfMembership,
  makeRoomMemberships,
  type RoomMembership,
  type RoomOfUser
} from "./internal/roomMemberships.ts"
import { stateRef } from "./internal/stateRows.ts"
import { texts } from "./PgArrays.ts"
import type { ClientTransaction } from "./RoomCommit.ts"
import type { StateRef } from "./StateRef.ts"
import type { StreamPosition } from "./StreamToken.ts"

export type { EndOfMembership, RoomMembership, RoomOfUser }

/** A room as its actor finds it when it opens it. `current` is undefined until the room was created. */
export interface OpenedRoom {
  readonly roomNid: number
  readonly version: string
  readonly fence: number
  /** The events that none follows yet, with the state after each. */
  readonly forwardExtremities: ReadonlyArray<{
    readonly event_id: EventId
    readonly depth: number
    readonly after: StateRef
  }>
  readonly current: StateRef | undefined
  readonly joinedMembers: number
  /** The depth of the event by which this server joined last; 0 where it made the room. */
  readonly joinedDepth: number
  /** Whether everybody finds its members in the user directory, as far as it is known. */
  readonly showsMembers: boolean | undefined
}

/** How many transactions of a session in a room `transactionIds` gives at most. */
export const knownTransactions = 100_000

/** How many answers one statement deletes. */
const deletedAtOnce = 10_000

export class RoomStore extends Context.Service<
  RoomStore,
  {
    /**
     * Makes the row of a room that this server does not take part in yet, or gives it another version. Does nothing where
     * it takes part. True if anything has changed.
     */
    readonly prepare: (roomId: RoomId, version: string, visibility: "public" | "private") => Effect.Effect<boolean>
    /** Opens a room for writing: every earlier writer is refused from now on. */
    readonly open: (roomId: RoomId) => Effect.Effect<Option.Option<OpenedRoom>>
    /** The transaction IDs of the session's answers in this room: all, if they are fewer than `knownTransactions`. */
    readonly transactionIds: (tokenId: number, scope: string) => Effect.Effect<ReadonlyArray<string>>
    /** The session's answer to one transaction in this room. */
    readonly transaction: (
      tokenId: number,
      scope: string,
      txnId: string
    ) => Effect.Effect<ClientTransaction | undefined>
    /** Deletes the answers from before a time, in milliseconds since 1970. */
    readonly forgetTransactions: (before: number) => Effect.Effect<void>
    /** A user's membership of a room; none if the room does not exist or the user never was in it. */
    readonly membership: (userId: UserId, roomId: RoomId) => Effect.Effect<Option.Option<RoomMembership>>
    /** Those of the users who are joined to the room that they are named with, in one query. */
    readonly joinedOf: (
      named: ReadonlyArray<{ readonly userId: UserId; readonly roomId: RoomId }>
    ) => Effect.Effect<ReadonlyArray<RoomOfUser>>
    /** The event by which the user left the room themself, or rejected an invitation to it. */
    readonly ownLeave: (userId: UserId, roomId: RoomId) => Effect.Effect<Option.Option<EventId>>
    /** How many rooms the user has one of the memberships in. */
    readonly countMemberships: (userId: UserId, memberships: ReadonlyArray<string>) => Effect.Effect<number>
    /** How many invitations of the user wait for an answer, and how many of them are by users of a server. */
    readonly countInvitations: (
      userId: UserId,
      server: ServerName
    ) => Effect.Effect<{ readonly all: number; readonly ofServer: number }>
    /** The rooms that the user has one of the memberships in. */
    readonly membershipsOf: (
      userId: UserId,
      memberships: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<RoomMembership>>
    readonly joinedRooms: (userId: UserId) => Effect.Effect<ReadonlyArray<RoomId>>
    /** The rooms that each of the users is joined to, in one query. */
    readonly joinedRoomsOfAll: (
      userIds: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<UserId, ReadonlyArray<RoomId>>>
    /** Whether both users are joined to a room. */
    readonly shareRoom: (a: UserId, b: UserId) => Effect.Effect<boolean>
    /** The users joined to any room that the user is joined to. */
    readonly roommates: (userId: UserId) => Effect.Effect<ReadonlyArray<UserId>>
    /** Joined members of a room. */
    readonly joinedMembers: (roomNid: number) => Effect.Effect<ReadonlyArray<UserId>>
    /** The users of this server who were joined to a room at a position. */
    readonly joinedAt: (roomNid: number, position: StreamPosition) => Effect.Effect<ReadonlyArray<UserId>>
    /** The version of a room of which this server knows, be it by an invitation alone. */
    readonly version: (roomId: RoomId) => Effect.Effect<Option.Option<string>>
    /** True if the room exists here: it was created here or joined over federation. */
    readonly exists: (roomId: RoomId) => Effect.Effect<boolean>
    /** The room's number and its current state; undefined for an unknown room. */
    readonly currentState: (
      roomId: RoomId
    ) => Effect.Effect<Option.Option<{ readonly roomNid: number; readonly state: StateRef }>>
  }
>()("greenroom/store/RoomStore") {
  static readonly layer = Layer.effect(
    RoomStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog

      // These two changes are on the disk with the first commit to the room, and mean nothing before it.
      const prepare = (roomId: RoomId, version: string, visibility: "public" | "private") =>
        sql<{ xid: string }>`
            WITH ${asynchronousCommit(sql)}
            INSERT INTO rooms (room_id, version, visibility, created_at)
            SELECT ${roomId}, ${version}, ${visibility}, extract(epoch FROM now()) * 1000 FROM asynchronous_commit
            ON CONFLICT (room_id) DO UPDATE SET version = EXCLUDED.version
            WHERE rooms.current_chain IS NULL AND rooms.version <> EXCLUDED.version
            RETURNING log_xid()::text AS xid`.pipe(
          Effect.map(([row]) => {
            if (row !== undefined) log.wroteNothing(Number(row.xid))
            return row !== undefined
          }),
          Effect.orDie
        )

      const endsOf = (eventIds: ReadonlyArray<string>) =>
        sql<{ event_id: string; depth: bigint; chain: bigint; seq: number }>`
          SELECT event_id, depth, coalesce(after_chain, state_chain) AS chain, coalesce(after_seq, state_seq) AS seq
          FROM events WHERE event_id = ANY (${texts(eventIds)}::text[])`

      // The events are read by a statement of their own: where the update had to wait for the last commit of another
      // writer, its own snapshot is from before that commit and does not show what the room ends with.
      const open = Effect.fnUntraced(function* (roomId: RoomId) {
        const rows = yield* sql<{
          room_nid: bigint
          version: string
          fence: bigint
          current_chain: bigint | null
          current_seq: number
          joined_members: number
          joined_depth: bigint
          shows_members: boolean | null
          forward_extremities: ReadonlyArray<string>
          xid: string
        }>`
          WITH ${asynchronousCommit(sql)}
          UPDATE rooms SET fence = fence + 1 FROM asynchronous_commit WHERE room_id = ${roomId}
          RETURNING
            room_nid, version, fence, current_chain, current_seq, joined_members, joined_depth, shows_members,
            forward_extremities, log_xid()::text AS xid`
        const row = rows[0]
        if (row === undefined) return Option.none<OpenedRoom>()
        log.wroteNothing(Number(row.xid))
        const extremities = row.forward_extremities.length === 0 ? [] : yield* endsOf(row.forward_extremities)
        return Option.some<OpenedRoom>({
          roomNid: Number(row.room_nid),
          version: row.version,
          fence: Number(row.fence),
          forwardExtremities: extremities.map(({ chain, depth, event_id, seq }) => ({
            event_id: event_id as EventId,
            depth: Number(depth),
            after: { chain: Number(chain), seq }
          })),
          current: stateRef(row.current_chain, row.current_seq),
          joinedMembers: row.joined_members,
          joinedDepth: Number(row.joined_depth),
          showsMembers: row.shows_members ?? undefined
        })
      }, Effect.orDie)

      const transactionIds = (tokenId: number, scope: string) =>
        sql<{ txn_id: string }>`
          SELECT txn_id FROM client_transactions WHERE token_id = ${tokenId} AND scope = ${scope}
          LIMIT ${knownTransactions}`.pipe(
          Effect.map((rows) => rows.map(({ txn_id }) => txn_id)),
          Effect.orDie
        )

      const transaction = (tokenId: number, scope: string, txnId: string) =>
        sql<{ response: string }>`
          SELECT response FROM client_transactions
          WHERE token_id = ${tokenId} AND scope = ${scope} AND txn_id = ${txnId}`.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : { tokenId, scope, txnId, response: row.response })),
          Effect.orDie
        )

      const forgetTransactions = (before: number): Effect.Effect<void> =>
        sql`DELETE FROM client_transactions WHERE ctid IN (
              SELECT ctid FROM client_transactions WHERE created_at < ${before} LIMIT ${deletedAtOnce})
            RETURNING 1`.pipe(
          Effect.orDie,
          Effect.flatMap((rows) => (rows.length < deletedAtOnce ? Effect.void : forgetTransactions(before)))
        )

      return RoomStore.of({
        prepare,
        open,
        transactionIds,
        transaction,
        forgetTransactions,
        ...makeRoomMemberships(sql),
        version: (roomId) =>
          sql<{ version: string }>`SELECT version FROM rooms WHERE room_id = ${roomId}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => row.version)),
            Effect.orDie
          ),
        currentState: (roomId) =>
          sql<{ room_nid: bigint; current_chain: bigint | null; current_seq: number }>`
            SELECT room_nid, current_chain, current_seq FROM rooms WHERE room_id = ${roomId}`.pipe(
            Effect.map(([row]) => {
              const state = row === undefined ? undefined : stateRef(row.current_chain, row.current_seq)
              return row === undefined || state === undefined
                ? Option.none()
                : Option.some({ roomNid: Number(row.room_nid), state })
            }),
            Effect.orDie
          ),
        exists: (roomId) =>
          sql`SELECT 1 FROM rooms WHERE room_id = ${roomId} AND current_chain IS NOT NULL`.pipe(
            Effect.map((rows) => rows.length > 0),
            Effect.orDie
          )
      })
    })
  )
}
