/**
 * Upgrades of rooms that are in progress. They are finished or taken back after the end of a process that has interrupted them.
 */
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { makeUnfinishedWork, type UnfinishedWork } from "./internal/unfinishedWork.ts"
import { texts } from "./PgArrays.ts"

export interface UnfinishedUpgrade {
  /** The room that is replaced. */
  readonly roomId: RoomId
  readonly userId: UserId
  /** The ID of the version of the new room. */
  readonly newVersion: string
  readonly additionalCreators: ReadonlyArray<UserId>
  /** The tombstone that the room had before. */
  readonly tombstone: EventId | undefined
}

interface Row {
  readonly new_version: string
  readonly additional_creators: ReadonlyArray<string>
  readonly tombstone: string | null
}

/** The wait before the first repeat, in ms: by then its process has ended or given up. */
const firstWait = 2 * 60_000

export class UnfinishedUpgradeStore extends Context.Service<
  UnfinishedUpgradeStore,
  UnfinishedWork<UnfinishedUpgrade>
>()("greenroom/store/UnfinishedUpgradeStore") {
  static readonly layer = Layer.effect(
    UnfinishedUpgradeStore,
    Effect.map(Effect.all([SqlClient.SqlClient, EventLog]), ([sql, log]) =>
      makeUnfinishedWork<UnfinishedUpgrade, Row>(sql, log, {
        kind: "unfinished upgrades",
        table: "unfinished_upgrades",
        columns: {
          new_version: ({ newVersion }) => sql`${newVersion}`,
          additional_creators: ({ additionalCreators }) => sql`${texts(additionalCreators)}::text[]`,
          tombstone: ({ tombstone }) => sql`${tombstone ?? null}`
        },
        read: (row) => ({
          newVersion: row.new_version,
          additionalCreators: row.additional_creators as ReadonlyArray<UserId>,
          tombstone: (row.tombstone ?? undefined) as EventId | undefined
        }),
        firstWait: () => firstWait
      })
    )
  )
}
