/**
 * Pushes the records that this server signed to every peer. The associations themselves are the queue: the last acknowledged number
 * of each peer is stored, and the peer gets the records after it. So a restart loses nothing, a peer that was unreachable gets only
 * current records, and a new peer gets all records.
 *
 * Source: "Identity" of the draft ("trusted clique of servers which replicate content").
 */

import type { ServerName } from "@greenroom/protocol/Identifiers"
import { laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { maxRecordsPerPush } from "@greenroom/protocol/identity/ReplicationApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { signJson } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, Context, Data, Effect, Latch, Layer, Result } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { SqlClient } from "effect/sql"
import { Associations, type OutgoingRecord } from "./Associations.ts"
import { backoff } from "./Backoff.ts"
import { failureReason } from "./FailureReason.ts"
import { IdentityOptions, type Peer } from "./IdentityOptions.ts"

class PeerRefused extends Data.TaggedError("PeerRefused")<{ readonly status: number }> {}

/** The latches that wake the sender to a peer. */
interface Wakers {
  /** Opened when this server has signed a record. */
  readonly fresh: Latch.Latch
  /** Opened when the peer has made a request. */
  readonly heard: Latch.Latch
}

/** How long a peer may take to answer. */
const requestTimeout = "30 seconds"

/** The longest interval between reads of new records: other nodes sign records too. */
const longestSleep = "30 seconds"

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const associations = yield* Associations
  const signingKeys = yield* SigningKeys
  const { peers, serverName } = yield* IdentityOptions
  const client = yield* HttpClient.HttpClient

  const acknowledged = Effect.fnUntraced(function* (peer: Peer) {
    const rows = yield* sql<{ seq: bigint }>`
      SELECT acknowledged_seq AS seq FROM replication_peers WHERE name = ${peer.name}`
    return Number(rows[0]?.seq ?? 0)
  }, Effect.orDie)

  const acknowledge = (peer: Peer, seq: number) =>
    Effect.orDie(sql`
      INSERT INTO replication_peers AS p (name, acknowledged_seq) VALUES (${peer.name}, ${seq})
      ON CONFLICT (name) DO UPDATE SET acknowledged_seq = greatest(p.acknowledged_seq, excluded.acknowledged_seq)`)

  const push = Effect.fn("ReplicationSender.push")(function* (peer: Peer, records: ReadonlyArray<OutgoingRecord>) {
    const unsigned: JsonObject = {
      origin: serverName,
      destination: peer.name,
      ts: yield* Clock.currentTimeMillis,
      records: records.map(({ record }) => record)
    }
    const body = Result.getOrThrow(signJson(unsigned, yield* signingKeys.current))
    yield* client
      .execute(
        HttpClientRequest.post(`${peer.url}${laterIdentityPrefix}/replicate/v1/push`).pipe(
          HttpClientRequest.bodyJsonUnsafe(body)
        )
      )
      .pipe(
        Effect.flatMap(({ status }) => (status === 200 ? Effect.void : Effect.fail(new PeerRefused({ status })))),
        Effect.scoped,
        Effect.timeout(requestTimeout)
      )
  })

  /** Sends the records that the peer does not have yet, page by page. */
  const catchUp = Effect.fnUntraced(function* (peer: Peer) {
    let seq = yield* acknowledged(peer)
    while (true) {
      const records = yield* associations.outgoing(seq, maxRecordsPerPush)
      if (records.length === 0) return
      yield* push(peer, records)
      seq = records.at(-1)!.seq
      yield* acknowledge(peer, seq)
    }
  })

  /** Sends new records immediately while the peer answers. After a failure it waits for the back-off or a request of the peer. */
  const follow = Effect.fnUntraced(function* (peer: Peer, { fresh, heard }: Wakers) {
    let failures = 0
    while (true) {
      yield* Effect.andThen(fresh.close, heard.close)
      const result = yield* Effect.result(catchUp(peer))
      failures = Result.isSuccess(result) ? 0 : failures + 1
      if (Result.isFailure(result)) {
        const { failure } = result
        const why = failure._tag === "PeerRefused" ? `status ${failure.status}` : failureReason(failure)
        yield* Effect.logWarning(`${peer.name} did not accept our associations (${why}), trying again`)
      }
      const rest = failures === 0 ? Effect.raceFirst(fresh.await, Effect.sleep(longestSleep)) : sleepAfter(failures)
      yield* Effect.raceFirst(heard.await, rest)
    }
  })

  const wakers = new Map<ServerName, Wakers>()
  for (const peer of peers) {
    const waker: Wakers = { fresh: yield* Latch.make(), heard: yield* Latch.make() }
    wakers.set(peer.name, waker)
    yield* keepRunning(`Replication to ${peer.name}`, follow(peer, waker))
  }
  const announce = Effect.gen(function* () {
    yield* associations.signed.await
    yield* associations.signed.close
    for (const { fresh } of wakers.values()) yield* fresh.open
  })
  yield* keepRunning("Announcing new associations to peers", announce)

  return ReplicationSender.of({
    wake: (name) => Effect.suspend(() => Effect.asVoid(wakers.get(name)?.heard.open ?? Effect.void))
  })
})

const sleepAfter = (failures: number) => Effect.flatMap(backoff(failures), Effect.sleep)

export class ReplicationSender extends Context.Service<
  ReplicationSender,
  {
    /** Retries unsent records immediately, because the peer has made a request. */
    readonly wake: (name: ServerName) => Effect.Effect<void>
  }
>()("greenroom/identity/ReplicationSender") {
  static readonly layer = Layer.effect(ReplicationSender, make)
}
