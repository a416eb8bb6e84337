/**
 * The state of rooms through time, as deltas. A state is named by a `StateRef`: the newest delta of each key in `chain`
 * up to `seq`, over what the parents of the chain hold. Each delta is one row, so a state event in a room with 100,000
 * others costs one row; a chain whose deltas outgrow the state itself is followed by one that begins with a snapshot.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { splitStateKey, stateKeyOf } from "@greenroom/room/RoomVersion"
import { sharedParts } from "@greenroom/room/SharedParts"
import { Context, Effect, identity, Layer, type Option } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { type Divergence, makeDivergence } from "./internal/stateDivergence.ts"
import { type StateIdRow, toStateId } from "./internal/stateRows.ts"
import { expectRows, readWhole, runningBytes, type SizedRow, sizedBody } from "./LargeReads.ts"
import { makeNumberBlocks, type NumberBlocks } from "./NumberBlocks.ts"
import { bigints, integers, texts } from "./PgArrays.ts"
import type { StateId, StateRef } from "./StateRef.ts"

export type { Divergence, StateChanges } from "./internal/stateDivergence.ts"
export type { StateId, StateRef } from "./StateRef.ts"

/** A key set to an event, or removed by state resolution. */
export interface StateChange {
  /** `stateKeyOf(type, stateKey)`. */
  readonly key: string
  readonly eventNid: number | null
}

export interface NewChain {
  readonly chain: number
  readonly roomNid: number
  readonly parent: StateRef | null
  readonly height: number
  /** The state that the snapshot at the beginning of the chain copies, if that state is known. */
  readonly equals?: StateRef
}

export interface StateDelta extends StateChange {
  readonly chain: number
  readonly seq: number
}

/** How many events are parsed before other work may run. */
const parsedAtOnce = 1000

const sharing = (event: Event): Event => Object.assign(event, sharedParts(event))

/** How many parents a read may have to walk. */
export const maxChainHeight = 8

/** The event that a key of a room's state is set to, with its number. */
export interface StateEntry {
  readonly roomNid: number
  readonly nid: number
  readonly event: Event
}

/** Selects events of a state: those of some types, one key, or several keys. */
export interface StateSelection {
  readonly types?: ReadonlyArray<string>
  readonly key?: StateKey
  readonly keys?: ReadonlyArray<StateKey>
  /** All types but one. */
  readonly except?: string
}

export type StateKey = readonly [type: string, stateKey: string]

/**
 * Joins each row of a table with a column `chain` with the state that the chain begins with, as `parent (chain, seq)`. Few
 * chains have one, so that PostgreSQL would rather read the chains of all rooms for them than look for one.
 */
export const parentOf = (table: string): string => `CROSS JOIN LATERAL (
  SELECT parent_chain AS chain, parent_seq AS seq FROM state_chains
  WHERE state_chains.chain = ${table}.chain AND parent_chain IS NOT NULL OFFSET 0
) AS parent`

export class StateStore extends Context.Service<
  StateStore,
  {
    /** Numbers for new chains. */
    readonly chains: NumberBlocks
    /**
     * The events of several states at once. `roomNid` is given back with each event, so that the caller knows of which
     * state it is. Counts as a `LargeReads` where they are many.
     */
    readonly read: (
      states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>,
      only?: StateSelection
    ) => Effect.Effect<ReadonlyArray<StateEntry>>
    /** A few events of a room's present state; none if this server does not take part in the room. */
    readonly readCurrent: (roomId: RoomId, only: StateSelection) => Effect.Effect<ReadonlyArray<StateEntry>>
    /** The whole state of a room, to stay in memory: what its events repeat is there once (`sharedParts`). */
    readonly load: (roomNid: number, ref: StateRef) => Effect.Effect<ReadonlyArray<StateEntry>>
    /** Some keys of several states, of each its own. */
    readonly readEach: (
      states: ReadonlyArray<{
        readonly roomNid: number
        readonly ref: StateRef
        readonly keys: ReadonlyArray<StateKey>
      }>
    ) => Effect.Effect<ReadonlyArray<StateEntry>>
    /** The number of events of several states, by `roomNid`. */
    readonly sizes: (
      states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>
    ) => Effect.Effect<ReadonlyMap<number, number>>
    /** The IDs and numbers of the events of one state, by state key. */
    readonly readIds: (ref: StateRef) => Effect.Effect<Map<string, StateId>>
    /** Some keys of a state; those that it does not have are left out. */
    readonly readKeys: (ref: StateRef, keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, StateId>>
    /**
     * Compares states by the changes since they parted; the cost does not depend on their size. `base` is the newest common
     * ancestor, or the one that is given. Undefined if they have none.
     */
    readonly divergence: (refs: ReadonlyArray<StateRef>, base?: StateRef) => Effect.Effect<Option.Option<Divergence>>
    /** The ends of chains: the highest `seq` of each, and how many parents a read of it walks. */
    readonly ends: (
      chains: ReadonlyArray<number>
    ) => Effect.Effect<ReadonlyMap<number, { readonly tip: number; readonly height: number }>>
  }
>()("greenroom/store/StateStore") {
  static readonly layer = Layer.effect(
    StateStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const chains = yield* makeNumberBlocks(sql, "state_chain_ids", 100)

      // A join of which one side is `LATERAL ... OFFSET 0` looks up row by row, whatever PostgreSQL believes of the tables: a
      // young database has no statistics, and would read all of the events instead.

      const parentOfWalked = sql.literal(parentOf("walk"))

      /** States as a table. */
      const given = (states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>) => sql`
        unnest(
          ${bigints(states.map((state) => state.roomNid))}::bigint[],
          ${bigints(states.map((state) => state.ref.chain))}::bigint[],
          ${integers(states.map((state) => state.ref.seq))}::integer[]
        ) AS wanted (room_nid, chain, seq)`

      /** The same of the present state of a room. */
      const currentOf = (roomId: RoomId) => sql`(
          SELECT room_nid, current_chain, current_seq FROM rooms
          WHERE room_id = ${roomId} AND current_chain IS NOT NULL
        ) AS wanted (room_nid, chain, seq)`

      /** The table expression `walk`: for each state of a table its chain and the parents of that, with the distance (`height`). */
      const walkOf = (wanted: Statement.Fragment) => sql`
        walk (room_nid, chain, seq, height) AS (
          SELECT room_nid, chain, seq, 0 FROM ${wanted}
          UNION ALL
          SELECT walk.room_nid, parent.chain, parent.seq, walk.height + 1 FROM walk ${parentOfWalked}
        )`

      const entries = (wanted: Statement.Fragment, filter: Statement.Fragment) => sql`
        WITH RECURSIVE ${walkOf(wanted)}
        SELECT DISTINCT ON (walk.room_nid, delta.type, delta.state_key)
          walk.room_nid, delta.type, delta.state_key, delta.event_nid
        FROM walk CROSS JOIN LATERAL (
          SELECT type, state_key, seq, event_nid FROM state_deltas delta
          WHERE delta.chain = walk.chain AND delta.seq <= walk.seq ${filter}
          OFFSET 0
        ) AS delta
        ORDER BY walk.room_nid, delta.type, delta.state_key, walk.height, delta.seq DESC`

      /** A state of many members takes PostgreSQL long to find, so few requests look for one at a time. */
      const expectMembers = Effect.fnUntraced(function* (roomNids: ReadonlyArray<number>) {
        const [row] = yield* sql<{ members: bigint | null }>`
          SELECT sum(joined_members) AS members FROM rooms WHERE room_nid = ANY (${bigints(roomNids)}::bigint[])`
        yield* expectRows(Number(row?.members ?? 0))
      })

      /** The condition on deltas by which a state is read in part. */
      const selected = (only: StateSelection = {}) =>
        only.key !== undefined
          ? sql`AND delta.type = ${only.key[0]} AND delta.state_key = ${only.key[1]}`
          : only.keys !== undefined
            ? sql`AND (delta.type, delta.state_key) IN (
                SELECT * FROM unnest(
                  ${texts(only.keys.map(([type]) => type))}::text[],
                  ${texts(only.keys.map(([, stateKey]) => stateKey))}::text[]))`
            : only.types !== undefined
              ? sql`AND delta.type = ANY (${texts(only.types)}::text[])`
              : only.except !== undefined
                ? sql`AND (delta.type < ${only.except} OR delta.type > ${only.except})`
                : sql.literal("")

      const read = Effect.fnUntraced(function* (
        states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>,
        only?: StateSelection
      ) {
        if (states.length === 0) return []
        if (only === undefined || only.types?.includes("m.room.member")) {
          yield* expectMembers(states.map(({ roomNid }) => roomNid))
        }
        return yield* eventsOf(entries(given(states), selected(only)))
      }, Effect.orDie)

      const readCurrent = (roomId: RoomId, only: StateSelection) =>
        Effect.orDie(eventsOf(entries(currentOf(roomId), selected(only))))

      const load = (roomNid: number, ref: StateRef) =>
        Effect.orDie(eventsOf(entries(given([{ roomNid, ref }]), sql.literal("")), sharing))

      const sizes = (states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>) =>
        sql<{ readonly room_nid: bigint; readonly size: bigint }>`
          SELECT room_nid, count(*) AS size FROM (${entries(given(states), sql.literal(""))}) AS newest
          WHERE event_nid IS NOT NULL GROUP BY room_nid`.pipe(
          Effect.map((rows) => new Map(rows.map(({ room_nid, size }) => [Number(room_nid), Number(size)]))),
          Effect.orDie
        )

      const readEach: StateStore["Service"]["readEach"] = Effect.fnUntraced(function* (states) {
        const wanted = states.flatMap(({ keys, roomNid }) =>
          keys.map(([type, stateKey]) => ({ roomNid, type, stateKey }))
        )
        if (wanted.length === 0) return []
        const newest = sql`
          WITH RECURSIVE ${walkOf(given(states))}
          SELECT DISTINCT ON (key.room_nid, key.type, key.state_key) key.room_nid, delta.event_nid
            FROM unnest(
              ${bigints(wanted.map(({ roomNid }) => roomNid))}::bigint[],
              ${texts(wanted.map(({ type }) => type))}::text[],
              ${texts(wanted.map(({ stateKey }) => stateKey))}::text[]
            ) AS key (room_nid, type, state_key)
            JOIN walk ON walk.room_nid = key.room_nid
            CROSS JOIN LATERAL (
              SELECT event_nid FROM state_deltas
              WHERE state_deltas.chain = walk.chain AND state_deltas.type = key.type
                AND state_deltas.state_key = key.state_key AND state_deltas.seq <= walk.seq
              ORDER BY state_deltas.seq DESC LIMIT 1
            ) AS delta
            ORDER BY key.room_nid, key.type, key.state_key, walk.height`
        return yield* eventsOf(newest)
      }, Effect.orDie)

      /** The events of rows of `room_nid` and `event_nid`. */
      const eventsOf = Effect.fnUntraced(function* (
        rowsOfEvents: Statement.Fragment,
        toKept: (event: Event) => Event = identity
      ) {
        const rows = yield* readWhole(
          sql,
          (limit) => sql<SizedRow & { readonly room_nid: bigint }>`
            SELECT sized.room_nid, sized.nid, ${sizedBody(sql)} FROM (
              SELECT state.room_nid, events.nid, events.body, ${sql.literal(runningBytes)}
              FROM (${rowsOfEvents}) AS state CROSS JOIN LATERAL (
                SELECT nid, body FROM events WHERE events.nid = state.event_nid OFFSET 0
              ) AS events
              ${limit}
            ) AS sized`
        )
        const found: Array<StateEntry> = []
        for (const row of rows) {
          const event = toKept(JSON.parse(row.body) as Event)
          found.push({ roomNid: Number(row.room_nid), nid: Number(row.nid), event })
          // A state may have 100,000 events: other work runs in between.
          if (found.length % parsedAtOnce === 0) yield* Effect.yieldNow
        }
        return found
      })

      const readIds = Effect.fnUntraced(function* (ref: StateRef) {
        const rows = yield* sql<StateIdRow>`
          SELECT state.type, state.state_key, events.event_id, events.nid
          FROM (${entries(given([{ roomNid: 0, ref }]), sql.literal(""))}) AS state CROSS JOIN LATERAL (
            SELECT event_id, nid FROM events WHERE events.nid = state.event_nid OFFSET 0
          ) AS events`
        return new Map(rows.map((row) => [stateKeyOf(row.type, row.state_key), toStateId(row)]))
      }, Effect.orDie)

      const ends = Effect.fnUntraced(function* (ids: ReadonlyArray<number>) {
        if (ids.length === 0) return new Map<number, never>()
        const rows = yield* sql<{ chain: bigint; tip: number | null; height: number }>`
          SELECT chain, height, (
            SELECT max(seq) FROM state_deltas WHERE state_deltas.chain = state_chains.chain AND seq > 0
          ) AS tip
          FROM state_chains WHERE chain = ANY (${bigints(ids)}::bigint[])`
        return new Map(rows.map(({ chain, height, tip }) => [Number(chain), { tip: tip ?? 0, height }]))
      }, Effect.orDie)

      const readKeys = Effect.fnUntraced(function* (ref: StateRef, keys: ReadonlyArray<string>) {
        if (keys.length === 0) return new Map<string, StateId>()
        const split = keys.map(splitStateKey)
        const rows = yield* sql<StateIdRow>`
          WITH RECURSIVE walk (chain, seq, height) AS (
            VALUES (${String(ref.chain)}::bigint, ${String(ref.seq)}::integer, 0)
            UNION ALL
            SELECT parent.chain, parent.seq, walk.height + 1 FROM walk ${parentOfWalked}
          )
          SELECT key.type, key.state_key, events.nid, events.event_id
          FROM unnest(
            ${texts(split.map(([type]) => type))}::text[], ${texts(split.map(([, stateKey]) => stateKey))}::text[]
          ) AS key (type, state_key)
          CROSS JOIN LATERAL (
            SELECT newest.event_nid FROM walk CROSS JOIN LATERAL (
              SELECT delta.event_nid FROM state_deltas delta
              WHERE delta.chain = walk.chain AND delta.type = key.type AND delta.state_key = key.state_key
                AND delta.seq <= walk.seq
              ORDER BY delta.seq DESC LIMIT 1
            ) AS newest
            ORDER BY walk.height LIMIT 1
          ) AS found
          JOIN events ON events.nid = found.event_nid`
        return new Map(rows.map((row) => [stateKeyOf(row.type, row.state_key), toStateId(row)]))
      }, Effect.orDie)

      return StateStore.of({
        chains,
        read,
        readCurrent,
        load,
        sizes,
        readEach,
        readIds,
        readKeys,
        divergence: makeDivergence(sql),
        ends
      })
    })
  )
}
