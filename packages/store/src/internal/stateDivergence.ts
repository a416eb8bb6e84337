/**
 * Compares states of a room by the deltas since they parted. Used by `StateStore`.
 */
import { stateKeyOf } from "@greenroom/room/RoomVersion"
import { Effect, Option } from "effect"
import type { SqlClient } from "effect/sql"
import { bigints, integers } from "../PgArrays.ts"
import type { StateId, StateRef } from "../StateRef.ts"
import { type StateIdRow, toStateId } from "./stateRows.ts"

/** The changes of a state against another one: by state key its event there, if it has one. */
export type StateChanges = ReadonlyMap<string, StateId | undefined>

/** Several states as changes of one that all of them come from. */
export interface Divergence {
  readonly base: StateRef
  /** In the order of the states that were asked about. */
  readonly changes: ReadonlyArray<StateChanges>
}

/** The newest state that all paths lead to. */
const commonState = (paths: ReadonlyArray<ReadonlyArray<StateRef>>): StateRef | undefined => {
  const [first = [], ...others] = paths.map((path) => new Map(path.map(({ chain, seq }) => [chain, seq])))
  for (const [chain, seq] of first) {
    const seqs = others.map((path) => path.get(chain))
    if (!seqs.includes(undefined)) return { chain, seq: Math.min(seq, ...(seqs as ReadonlyArray<number>)) }
  }
  return undefined
}

/** The stretches of chains between a state and one that its path leads to; undefined if it does not. */
const stretchesSince = (path: ReadonlyArray<StateRef>, base: StateRef) => {
  const last = path.findIndex(({ chain }) => chain === base.chain)
  if (last < 0 || path[last]!.seq < base.seq) return undefined
  return path
    .slice(0, last + 1)
    .map(({ chain, seq }, hop) => ({ chain, after: hop === last ? base.seq : 0, upTo: seq }))
}

/** `divergence` of `StateStore`. */
export const makeDivergence = (sql: SqlClient.SqlClient) => {
  /** Each state and those that it comes from, the newest first. */
  const pathsOf = Effect.fnUntraced(function* (refs: ReadonlyArray<StateRef>) {
    const rows = yield* sql<{ path: number; chain: bigint; seq: number }>`
      WITH RECURSIVE walk (path, chain, seq, hop) AS (
        SELECT path, chain, seq, 0
        FROM unnest(
          ${bigints(refs.map((ref) => ref.chain))}::bigint[], ${integers(refs.map((ref) => ref.seq))}::integer[]
        ) WITH ORDINALITY AS given (chain, seq, path)
        UNION ALL
        SELECT walk.path, before.chain, before.seq, walk.hop + 1
        FROM walk CROSS JOIN LATERAL (
          SELECT coalesce(parent_chain, equals_chain) AS chain, coalesce(parent_seq, equals_seq) AS seq
          FROM state_chains WHERE state_chains.chain = walk.chain OFFSET 0
        ) AS before
        WHERE before.chain IS NOT NULL
      )
      SELECT path::integer, chain, seq FROM walk ORDER BY path, hop`
    const paths = refs.map((): Array<StateRef> => [])
    for (const { chain, path, seq } of rows) paths[path - 1]!.push({ chain: Number(chain), seq })
    return paths
  })

  return Effect.fnUntraced(function* (refs: ReadonlyArray<StateRef>, from?: StateRef) {
    const paths = yield* pathsOf(refs)
    const base = from ?? commonState(paths)
    if (base === undefined) return Option.none<Divergence>()
    const stretches = paths.map((path) => stretchesSince(path, base))
    if (stretches.includes(undefined)) return Option.none<Divergence>()
    const flat = stretches.flatMap((entry, state) => entry!.map((stretch, hop) => ({ state, hop, ...stretch })))
    const rows = yield* sql<StateIdRow & { readonly state: number }>`
      SELECT newest.state, newest.type, newest.state_key, newest.event_nid AS nid, events.event_id FROM (
        SELECT DISTINCT ON (stretch.state, delta.type, delta.state_key)
          stretch.state, delta.type, delta.state_key, delta.event_nid
        FROM unnest(
          ${integers(flat.map(({ state }) => state))}::integer[], ${integers(flat.map(({ hop }) => hop))}::integer[],
          ${bigints(flat.map(({ chain }) => chain))}::bigint[],
          ${integers(flat.map(({ after }) => after))}::integer[], ${integers(flat.map(({ upTo }) => upTo))}::integer[]
        ) AS stretch (state, hop, chain, after, up_to)
        CROSS JOIN LATERAL (
          SELECT type, state_key, seq, event_nid FROM state_deltas
          WHERE chain = stretch.chain AND seq > 0 AND seq > stretch.after AND seq <= stretch.up_to
          OFFSET 0
        ) AS delta
        ORDER BY stretch.state, delta.type, delta.state_key, stretch.hop, delta.seq DESC
      ) AS newest
      LEFT JOIN events ON events.nid = newest.event_nid`
    const changes = refs.map(() => new Map<string, StateId | undefined>())
    for (const row of rows) {
      changes[row.state]!.set(stateKeyOf(row.type, row.state_key), row.nid === null ? undefined : toStateId(row))
    }
    return Option.some<Divergence>({ base, changes })
  }, Effect.orDie)
}
