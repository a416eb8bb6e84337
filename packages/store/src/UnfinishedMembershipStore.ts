/**
 * Memberships of our users in rooms of other servers that are in progress. They are finished or taken back after a
 * wait, and after the end of a process that has interrupted them.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { EventLog } from "./EventLog.ts"
import { makeUnfinishedWork, type UnfinishedWork } from "./internal/unfinishedWork.ts"
import { texts } from "./PgArrays.ts"

export interface UnfinishedMembership {
  readonly roomId: RoomId
  readonly userId: UserId
  /**
   * A join that a server may have taken and this one has not recorded; a leave that no server has taken; or a knock that
   * one has taken, which can be taken back through it. A knock is not tried again.
   */
  readonly membership: "join" | "leave" | "knock"
  /** The servers that were, or are to be, notified. */
  readonly servers: ReadonlyArray<ServerName>
  /** The content of a join beside the membership. */
  readonly content: JsonObject
}

interface Row {
  readonly membership: string
  readonly servers: ReadonlyArray<string>
  readonly content: string
}

/** The wait before the first repeat of a leave, in ms. */
const leaveWait = 5_000

/** A join is repeated once its process must have ended or given it up, in ms. */
const joinWait = 5 * 60_000

export class UnfinishedMembershipStore extends Context.Service<
  UnfinishedMembershipStore,
  UnfinishedWork<UnfinishedMembership>
>()("greenroom/store/UnfinishedMembershipStore") {
  static readonly layer = Layer.effect(
    UnfinishedMembershipStore,
    Effect.map(Effect.all([SqlClient.SqlClient, EventLog]), ([sql, log]) =>
      makeUnfinishedWork<UnfinishedMembership, Row>(sql, log, {
        kind: "unfinished memberships",
        table: "unfinished_memberships",
        columns: {
          membership: ({ membership }) => sql`${membership}`,
          servers: ({ servers }) => sql`${texts(servers)}::text[]`,
          content: ({ content }) => sql`${JSON.stringify(content)}`
        },
        read: (row) => ({
          membership: row.membership as UnfinishedMembership["membership"],
          servers: row.servers as ReadonlyArray<ServerName>,
          content: JSON.parse(row.content) as JsonObject
        }),
        firstWait: ({ membership }) => (membership === "leave" ? leaveWait : joinWait),
        isRepeated: sql`membership <> 'knock'`
      })
    )
  )
}
