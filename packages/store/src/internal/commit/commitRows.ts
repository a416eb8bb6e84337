/**
 * The rows of a batch of commits, each with the room and fence that it belongs to: a part of the commit statement inserts those
 * whose room has not been left out (`fenced`).
 */

import { bigints } from "../../PgArrays.ts"
import type { RoomCommit } from "../../RoomCommit.ts"

/** The name of the writer of a commit, by which the rows of one batch are counted. */
export const writerOf = ({ fence, roomNid }: Pick<RoomCommit, "fence" | "roomNid">): string => `${roomNid}/${fence}`

const noNumbers = bigints([])

/** The rows of all commits of one kind, with the room and fence that each belongs to. */
export const collect = <Of, A>(
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

export const rowsOf = <A>(commits: ReadonlyArray<RoomCommit>, rows: (commit: RoomCommit) => ReadonlyArray<A>) =>
  collect(commits, (commit) => commit, rows)
