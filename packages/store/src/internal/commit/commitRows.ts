/**
 * The rows of a batch of commits, each with the room and fence that it belongs to: a part of the commit statement inserts those
 * whose room has not been left out (`fenced`).
 */

import { bigints } from "../../PgArrays.ts"
import type { LoggedEvent, RoomCommit } from "../../RoomCommit.ts"

/** The events of a commit that are new in the graph. */
export const placedIn = ({ events, placed = [] }: RoomCommit): ReadonlyArray<LoggedEvent> =>
  placed.length === 0 ? events : [...events, ...placed]

/** The rows of one kind, with the room and fence of each. */
export interface CommitRows<A> {
  readonly empty: boolean
  readonly rooms: ReturnType<typeof bigints>
  readonly fences: ReturnType<typeof bigints>
  readonly rows: ReadonlyArray<A>
}

const noNumbers = bigints([])

const noRows: CommitRows<never> = { empty: true, rooms: noNumbers, fences: noNumbers, rows: [] }

/** Most commits have no rows of most kinds. */
export const collect = <Of, A>(
  all: ReadonlyArray<Of>,
  commitOf: (of: Of) => RoomCommit,
  rows: (of: Of) => ReadonlyArray<A>
): CommitRows<A> => {
  let found: { readonly rooms: Array<number>; readonly fences: Array<number>; readonly rows: Array<A> } | undefined
  for (const of of all) {
    const more = rows(of)
    if (more.length === 0) continue
    found ??= { rooms: [], fences: [], rows: [] }
    const { fence, roomNid } = commitOf(of)
    for (const row of more) {
      found.rows.push(row)
      found.rooms.push(roomNid)
      found.fences.push(fence)
    }
  }
  if (found === undefined) return noRows
  return { empty: false, rooms: bigints(found.rooms), fences: bigints(found.fences), rows: found.rows }
}

export const rowsOf = <A>(commits: ReadonlyArray<RoomCommit>, rows: (commit: RoomCommit) => ReadonlyArray<A>) =>
  collect(commits, (commit) => commit, rows)
