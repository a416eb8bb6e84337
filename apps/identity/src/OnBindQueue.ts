/**
 * The queue of `OnBind` requests to home servers, for invitations whose address was bound. An entry is written in the
 * transaction of the binding and stays until its home server has accepted it, so no restart on either side loses it.
 */

import { type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import {
  type BoundInvite,
  maxInvitesPerAddress,
  type OnBind,
  type SignedInvite
} from "@greenroom/protocol/identity/OnBind"
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type SigningKey, signJson } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Latch, Layer, Result, Semaphore } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { longestWait } from "./Backoff.ts"

/** An entry that is due. */
export interface DueOnBind {
  readonly id: number
  readonly serverName: ServerName
  /** An `OnBind` as JSON. */
  readonly body: string
  /** The number of earlier attempts. */
  readonly attempts: number
  readonly createdAt: number
}

interface DueRow {
  readonly id: bigint
  readonly server_name: string
  readonly body: string
  readonly attempts: number
  readonly created_at: bigint
}

const toDue = (row: DueRow): DueOnBind => ({
  id: Number(row.id),
  serverName: row.server_name as ServerName,
  body: row.body,
  attempts: row.attempts,
  createdAt: Number(row.created_at)
})

/** How long a node leases an entry before another may take it, in ms. */
const lease = 60_000

interface InviteRow {
  readonly token: string
  readonly room_id: string
  readonly sender: string
  readonly created_at: bigint
}

/** The proof, signed by every key: the home server knows the key that was current when the invitation was stored. */
const prove = (mxid: UserId, token: string, keys: ReadonlyArray<SigningKey>): SignedInvite => {
  const unsigned: JsonObject = { mxid, token }
  return keys.reduce((signed, key) => Result.getOrThrow(signJson(signed, key)), unsigned) as unknown as SignedInvite
}

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const signingKeys = yield* SigningKeys
  const added = yield* Latch.make()

  const enqueueInvites = Effect.fnUntraced(function* (thirdPartyId: ThirdPartyId, mxid: UserId) {
    const { address, medium } = thirdPartyId
    const rows = yield* sql<InviteRow>`
      DELETE FROM invites WHERE medium = ${medium} AND address = ${address} 
      RETURNING token, room_id, sender, created_at`
    if (rows.length === 0) return
    const keys = yield* signingKeys.currentSince(Math.min(...rows.map(({ created_at }) => Number(created_at))))
    const invites = rows.slice(0, maxInvitesPerAddress).map(
      (row): BoundInvite => ({
        medium,
        address,
        mxid,
        room_id: row.room_id as RoomId,
        sender: row.sender as UserId,
        signed: prove(mxid, row.token, keys)
      })
    )
    const body: OnBind = { medium, address, mxid, invites }
    const now = yield* Clock.currentTimeMillis
    yield* sql`
      INSERT INTO onbind_queue (server_name, body, next_attempt_at, created_at)
      VALUES (${serverNameOf(mxid)}, ${JSON.stringify(body)}, ${now}, ${now})`
  })

  /**
   * Leases the due entry, so that only one node sends it. New entries come first. Those of a server that is being asked, or has just
   * failed, wait until it is asked again: users choose the server, and one that stays silent must not take all of the time.
   */
  const takeDue = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const waits = sql`next_attempt_at BETWEEN ${now + 1} AND ${now + longestWait}`
    const rows = yield* sql<DueRow>`
      UPDATE onbind_queue SET next_attempt_at = ${now + lease}, attempts = attempts + 1
      WHERE id = (
        SELECT id FROM onbind_queue
        WHERE NOT (${waits})
          AND server_name NOT IN (SELECT server_name FROM onbind_queue WHERE attempts > 0 AND ${waits})
        ORDER BY attempts > 0, next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING id, server_name, body, attempts - 1 AS attempts, created_at`
    return rows[0] === undefined ? undefined : toDue(rows[0])
  }).pipe(Effect.orDie, (yield* Semaphore.make(1)).withPermit)

  return OnBindQueue.of({
    enqueueInvites,
    added,
    takeDue,
    remove: (id) => Effect.orDie(Effect.asVoid(sql`DELETE FROM onbind_queue WHERE id = ${id}`)),
    postpone: (id, until) =>
      Effect.orDie(Effect.asVoid(sql`UPDATE onbind_queue SET next_attempt_at = ${until} WHERE id = ${id}`)),
    nextDue: Effect.orDie(
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const [row] = yield* sql<{ next: bigint | null }>`
          SELECT min(next_attempt_at) AS next FROM onbind_queue WHERE next_attempt_at > ${now}`
        return row?.next == null ? undefined : Number(row.next)
      })
    )
  })
})

export class OnBindQueue extends Context.Service<
  OnBindQueue,
  {
    /** Moves the invitations of an address into the queue, in the surrounding transaction. */
    readonly enqueueInvites: (thirdPartyId: ThirdPartyId, mxid: UserId) => Effect.Effect<void, SqlError.SqlError>
    /** Opened when an entry was added. */
    readonly added: Latch.Latch
    readonly takeDue: Effect.Effect<DueOnBind | undefined>
    readonly remove: (id: number) => Effect.Effect<void>
    /** `until` in milliseconds since 1970. */
    readonly postpone: (id: number, until: number) => Effect.Effect<void>
    /** When the next entry is due that was not due before, in milliseconds since 1970; undefined if there is none. */
    readonly nextDue: Effect.Effect<number | undefined>
  }
>()("greenroom/identity/OnBindQueue") {
  static readonly layer = Layer.effect(OnBindQueue, make)
}
