/**
 * The state of rooms through time, as deltas. A state is named by a `StateRef`: the newest delta of each key in `chain`
 * up to `seq`, over what the parents of the chain hold. Each delta is one row, so a state event in a room with 100,000
 * others costs one row; a chain whose deltas outgrow the state itself is followed by one that begins with a snapshot.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { splitStateKey, stateKeyOf } from "@greenroom/room/RoomVersion"
import { Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { makeNumberBlocks, type NumberBlocks } from "./NumberBlocks.ts"
import { bigints, integers, texts } from "./PgArrays.ts"

export interface StateRef {
  readonly chain: number
  readonly seq: number
}

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
}

export interface StateDelta extends StateChange {
  readonly chain: number
  readonly seq: number
}

/** How many events are parsed before anything else gets its turn. */
const parsedAtOnce = 1000

/** How many parents a read may have to walk. */
export const maxChainHeight = 8

/** The event that a key of a room's state is set to, with its number. */
export interface StateEntry {
  readonly roomNid: number
  readonly nid: number
  readonly event: Event
}

/** An event of a state by its two names. */
export interface StateId {
  readonly id: EventId
  readonly nid: number
}

export class StateStore extends Context.Service<
  StateStore,
  {
    /** Numbers for new chains. */
    readonly chains: NumberBlocks
    /** The events of several rooms' states at once, optionally only some keys (type and state key) or types. */
    readonly read: (
      states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>,
      only?: { readonly types?: ReadonlyArray<string>; readonly key?: readonly [type: string, stateKey: string] }
    ) => Effect.Effect<ReadonlyArray<StateEntry>>
    /** The IDs and numbers of the events of one state, by state key. */
    readonly readIds: (ref: StateRef) => Effect.Effect<Map<string, StateId>>
    /** How long each chain is: its highest `seq`, and how many parents a read of it walks. */
    readonly chain: (chain: number) => Effect.Effect<{ readonly tip: number; readonly height: number }>
  }
>()("greenroom/store/StateStore") {
  static readonly layer = Layer.effect(
    StateStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const chains = yield* makeNumberBlocks(sql, "state_chain_ids", 100)

      const entries = (
        states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>,
        filter: Statement.Fragment
      ) => sql`
        WITH RECURSIVE walk (room_nid, chain, seq, height) AS (
          SELECT room_nid, chain, seq, 0
          FROM unnest(
            ${bigints(states.map((state) => state.roomNid))}::bigint[],
            ${bigints(states.map((state) => state.ref.chain))}::bigint[],
            ${integers(states.map((state) => state.ref.seq))}::integer[]
          ) AS wanted (room_nid, chain, seq)
          UNION ALL
          SELECT walk.room_nid, state_chains.parent_chain, state_chains.parent_seq, walk.height + 1
          FROM walk JOIN state_chains ON state_chains.chain = walk.chain
          WHERE state_chains.parent_chain IS NOT NULL
        )
        SELECT DISTINCT ON (walk.room_nid, delta.type, delta.state_key)
          walk.room_nid, delta.type, delta.state_key, delta.event_nid
        FROM walk JOIN state_deltas delta ON delta.chain = walk.chain AND delta.seq <= walk.seq
        WHERE true ${filter}
        ORDER BY walk.room_nid, delta.type, delta.state_key, walk.height, delta.seq DESC`

      const read = Effect.fnUntraced(function* (
        states: ReadonlyArray<{ readonly roomNid: number; readonly ref: StateRef }>,
        only?: { readonly types?: ReadonlyArray<string>; readonly key?: readonly [type: string, stateKey: string] }
      ) {
        if (states.length === 0) return []
        const filter =
          only?.key !== undefined
            ? sql`AND delta.type = ${only.key[0]} AND delta.state_key = ${only.key[1]}`
            : only?.types !== undefined
              ? sql`AND delta.type = ANY (${texts(only.types)}::text[])`
              : sql.literal("")
        const rows = yield* sql<{ room_nid: bigint; nid: bigint; body: string }>`
          SELECT state.room_nid, events.nid, events.body
          FROM (${entries(states, filter)}) AS state JOIN events ON events.nid = state.event_nid`
        const found: Array<StateEntry> = []
        for (const row of rows) {
          found.push({ roomNid: Number(row.room_nid), nid: Number(row.nid), event: JSON.parse(row.body) as Event })
          // A state may have 100,000 events: others get their turn in between.
          if (found.length % parsedAtOnce === 0) yield* Effect.yieldNow
        }
        return found
      }, Effect.orDie)

      const readIds = Effect.fnUntraced(function* (ref: StateRef) {
        const rows = yield* sql<{ type: string; state_key: string; event_id: string; nid: bigint }>`
          SELECT state.type, state.state_key, events.event_id, events.nid
          FROM (${entries([{ roomNid: 0, ref }], sql.literal(""))}) AS state JOIN events ON events.nid = state.event_nid`
        return new Map(
          rows.map((row): [string, StateId] => [
            stateKeyOf(row.type, row.state_key),
            { id: row.event_id as EventId, nid: Number(row.nid) }
          ])
        )
      }, Effect.orDie)

      const chain = (id: number) =>
        sql<{ tip: number | null; height: number | null }>`
          SELECT (SELECT max(seq) FROM state_deltas WHERE chain = ${id}) AS tip,
            (SELECT height FROM state_chains WHERE chain = ${id}) AS height`.pipe(
          Effect.map((rows) => ({ tip: rows[0]?.tip ?? 0, height: rows[0]?.height ?? 0 })),
          Effect.orDie
        )

      return StateStore.of({ chains, read, readIds, chain })
    })
  )
}

/** The columns of delta rows, for the statement that commits them. */
export const deltaColumns = (deltas: ReadonlyArray<StateDelta>) => {
  const keys = deltas.map((delta) => splitStateKey(delta.key))
  return {
    chains: bigints(deltas.map((delta) => delta.chain)),
    types: texts(keys.map(([type]) => type)),
    stateKeys: texts(keys.map(([, stateKey]) => stateKey)),
    seqs: integers(deltas.map((delta) => delta.seq)),
    eventNids: bigints(deltas.map((delta) => delta.eventNid))
  }
}
