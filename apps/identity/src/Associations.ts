/**
 * The user of each address: the newest record of the address, signed by this server or by a peer.
 *
 * Of two records the one with the higher `ts` wins. If both are equal, the origin that sorts last wins, so that all servers of a clique
 * agree. A record that this server signs is newer than all records of the address that it has.
 *
 * Source: "Identity" of the draft, "Establishing associations" of the identity service specification.
 */

import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { AssociationRecord, SignedAssociation } from "@greenroom/protocol/identity/Association"
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { compareCodePoints } from "@greenroom/room/CanonicalJson"
import { type SigningKey, signJson } from "@greenroom/room/Signing"
import { texts } from "@greenroom/store/PgArrays"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Latch, Layer, Option, Result } from "effect"
import { SqlClient } from "effect/sql"
import { hashAddress } from "./AddressHash.ts"
import { lockAssociations } from "./AssociationLock.ts"
import { IdentityOptions } from "./IdentityOptions.ts"
import { OnBindQueue } from "./OnBindQueue.ts"
import { Peppers } from "./Peppers.ts"

/** How long an association is valid: a hundred years, in ms. */
const validity = 100 * 365 * 24 * 60 * 60_000

/** A record of this server for a peer. */
export interface OutgoingRecord {
  readonly seq: number
  readonly record: JsonObject
}

interface CurrentRow {
  readonly ts: bigint
  readonly origin: string
  readonly mxid: string | null
}

/** Whether the record replaces the current one. */
const isNewer = (
  record: { readonly ts: number; readonly origin: string },
  current: CurrentRow | undefined
): boolean => {
  if (current === undefined) return true
  const difference = record.ts - Number(current.ts)
  return difference === 0 ? compareCodePoints(record.origin, current.origin) > 0 : difference > 0
}

const sign = (record: object, key: SigningKey): JsonObject => Result.getOrThrow(signJson(record as JsonObject, key))

/** Adds a signature by the key to a record that lacks it: of another server, or from before the key was the current one. */
const withSignature = (record: AssociationRecord, key: SigningKey): JsonObject =>
  record.signatures[key.serverName]?.[key.keyId] === undefined ? sign(record, key) : (record as unknown as JsonObject)

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { serverName } = yield* IdentityOptions
  const signingKeys = yield* SigningKeys
  const peppers = yield* Peppers
  const onBind = yield* OnBindQueue
  const signed = yield* Latch.make()

  const current = Effect.fnUntraced(function* ({ address, medium }: ThirdPartyId) {
    const rows = yield* sql<CurrentRow>`
      SELECT ts, origin, mxid FROM associations WHERE medium = ${medium} AND address = ${address}`
    return rows[0]
  })

  /** Replaces the current record, and releases the invitations that wait for the address. */
  const write = Effect.fnUntraced(function* (record: AssociationRecord, origin: ServerName) {
    const { address, medium, mxid } = record
    const pair = yield* peppers.pair
    const seq = origin === serverName ? sql`nextval('association_seq')` : sql`NULL`
    yield* sql`
      INSERT INTO associations
        (medium, address, mxid, ts, not_before, not_after, origin, record, hash, previous_hash, seq)
      VALUES (${medium}, ${address}, ${mxid}, ${record.ts}, ${record.not_before}, ${record.not_after}, ${origin},
        ${JSON.stringify(record)}, ${hashAddress(record, pair.current)}, ${hashAddress(record, pair.previous)}, ${seq})
      ON CONFLICT (medium, address) DO UPDATE SET
        mxid = excluded.mxid, ts = excluded.ts, not_before = excluded.not_before, not_after = excluded.not_after,
        origin = excluded.origin, record = excluded.record, hash = excluded.hash,
        previous_hash = excluded.previous_hash, seq = excluded.seq`
    if (mxid !== null) yield* onBind.enqueueInvites(record, mxid)
  })

  const writeOwn = Effect.fnUntraced(function* (
    { address, medium }: ThirdPartyId,
    mxid: UserId | null,
    replaced: CurrentRow | undefined
  ) {
    const now = yield* Clock.currentTimeMillis
    const ts = replaced === undefined ? now : Math.max(now, Number(replaced.ts) + 1)
    const record = sign(
      { medium, address, mxid, ts, not_before: now, not_after: now + validity },
      yield* signingKeys.current
    ) as unknown as AssociationRecord
    yield* write(record, serverName)
    return record
  })

  const locked = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    sql.withTransaction(Effect.andThen(lockAssociations(sql), effect))

  /** Wakes the senders of records to peers and of invitations to home servers. */
  const announce = Effect.andThen(signed.open, onBind.added.open)

  const bind = Effect.fn("Associations.bind")(function* (thirdPartyId: ThirdPartyId, mxid: UserId) {
    const record = yield* Effect.orDie(
      locked(Effect.flatMap(current(thirdPartyId), (replaced) => writeOwn(thirdPartyId, mxid, replaced)))
    )
    yield* announce
    return record as SignedAssociation
  })

  const unbind = Effect.fn("Associations.unbind")(function* (thirdPartyId: ThirdPartyId, mxid: UserId) {
    yield* locked(
      Effect.gen(function* () {
        const bound = yield* current(thirdPartyId)
        if (bound === undefined || bound.mxid !== mxid) {
          return yield* new NotFound({ error: "The address is not bound to this user" })
        }
        yield* writeOwn(thirdPartyId, null, bound)
      })
    ).pipe(Effect.catchTag("SqlError", Effect.die))
    yield* announce
  })

  const applyAll = Effect.fn("Associations.applyAll")(function* (
    records: ReadonlyArray<AssociationRecord>,
    origin: ServerName
  ) {
    yield* Effect.orDie(
      locked(
        Effect.forEach(records, (record) =>
          Effect.flatMap(current(record), (known) =>
            isNewer({ ts: record.ts, origin }, known) ? write(record, origin) : Effect.void
          )
        )
      )
    )
    yield* onBind.added.open
  })

  const find = Effect.fn("Associations.find")(function* ({ address, medium }: ThirdPartyId) {
    const now = yield* Clock.currentTimeMillis
    const rows = yield* Effect.orDie(sql<{ record: string }>`
      SELECT record FROM associations
      WHERE medium = ${medium} AND address = ${address} AND mxid IS NOT NULL AND not_before <= ${now} AND not_after > ${now}`)
    const row = rows[0]
    if (row === undefined) return Option.none<SignedAssociation>()
    const signed = withSignature(JSON.parse(row.record), yield* signingKeys.current)
    return Option.some(signed as unknown as SignedAssociation)
  })

  const findHashed = Effect.fn("Associations.findHashed")(function* (hashes: ReadonlyArray<string>, pepper: string) {
    const pair = yield* peppers.pair
    if (pepper !== pair.current && pepper !== pair.previous) return Option.none<Record<string, UserId>>()
    const column = sql(pepper === pair.current ? "hash" : "previous_hash")
    const now = yield* Clock.currentTimeMillis
    const rows = yield* Effect.orDie(sql<{ hash: string; mxid: string }>`
      SELECT ${column} AS hash, mxid FROM associations
      WHERE ${column} = ANY(${texts(hashes)}) AND mxid IS NOT NULL AND not_before <= ${now} AND not_after > ${now}`)
    return Option.some(Object.fromEntries(rows.map((row) => [row.hash, row.mxid as UserId])))
  })

  const outgoing = Effect.fnUntraced(function* (after: number, limit: number) {
    const rows = yield* sql<{ seq: bigint; record: string }>`
      SELECT seq, record FROM associations WHERE seq > ${after} ORDER BY seq LIMIT ${limit}`
    const key = yield* signingKeys.current
    return rows.map(
      (row): OutgoingRecord => ({ seq: Number(row.seq), record: withSignature(JSON.parse(row.record), key) })
    )
  }, Effect.orDie)

  return Associations.of({ bind, unbind, applyAll, find, findHashed, outgoing, signed })
})

export class Associations extends Context.Service<
  Associations,
  {
    /** Binds a validated address to the user, and ends a former binding. */
    readonly bind: (thirdPartyId: ThirdPartyId, mxid: UserId) => Effect.Effect<SignedAssociation>
    /** Errors: M_NOT_FOUND unless the address is bound to the user. */
    readonly unbind: (thirdPartyId: ThirdPartyId, mxid: UserId) => Effect.Effect<void, NotFound>
    /** Applies records of a peer, whose signatures were checked. Records older than the current one change nothing. */
    readonly applyAll: (records: ReadonlyArray<AssociationRecord>, origin: ServerName) => Effect.Effect<void>
    /** The current association, signed by its origin and by this server. */
    readonly find: (thirdPartyId: ThirdPartyId) => Effect.Effect<Option.Option<SignedAssociation>>
    /** User IDs by hash; none for an outdated pepper. */
    readonly findHashed: (
      hashes: ReadonlyArray<string>,
      pepper: string
    ) => Effect.Effect<Option.Option<Readonly<Record<string, UserId>>>>
    /** Records of this server after a number, in order, each also signed by the current key. */
    readonly outgoing: (after: number, limit: number) => Effect.Effect<ReadonlyArray<OutgoingRecord>>
    /** Opened when this server has signed a record. */
    readonly signed: Latch.Latch
  }
>()("greenroom/identity/Associations") {
  static readonly layer = Layer.effect(Associations, make)
}
