/**
 * Sends one transaction to another server. Used by the Peer actor.
 *
 * Source: "Transactions" of the server-server specification.
 */
import { randomBytes } from "node:crypto"
import { todaysKeyPath } from "@greenroom/protocol/federation/KeyApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { EduTransaction } from "@greenroom/store/OutgoingEduStore"
import { type NextTransaction, OutgoingStore } from "@greenroom/store/OutgoingStore"
import { type Fence, ShardFenceStore } from "@greenroom/store/ShardFenceStore"
import { Clock, Effect } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { Destinations } from "../Destinations.ts"
import { FederationRooms } from "../FederationRooms.ts"
import { FederationTransport } from "../FederationTransport.ts"
import type { EduContent } from "../PendingEdus.ts"
import type { RemoteError } from "../RemoteError.ts"
import { ServerServerClient } from "../ServerServerClient.ts"
import type { Outgoing } from "./PeerQueue.ts"
import { wellFormedEdu } from "./wellFormedEdu.ts"

/** How long a server that was not there may take to show that it is, in milliseconds, and how much it may say. */
const probeTimeout = 10_000
const maxProbeBytes = 64 * 1024

/** `fence` is that of the actor's shard: nothing is sent after another node has taken it. */
export const makePeerSending = Effect.fnUntraced(function* (destination: ServerName, fence: Fence | undefined) {
  const { serverName } = yield* HomeServerConfig
  const store = yield* OutgoingStore
  const destinations = yield* Destinations
  const rooms = yield* FederationRooms
  const client = yield* ServerServerClient
  const transport = yield* FederationTransport
  const fences = yield* ShardFenceStore
  /** The last transaction that was prepared here without EDUs. */
  let withoutEdus: string | undefined

  /** The cheapest request that shows whether the server is there: nothing is signed for an unreachable one. */
  const probe = transport
    .request({
      destination,
      method: "GET",
      uri: todaysKeyPath,
      maxBytes: maxProbeBytes,
      timeout: probeTimeout,
      mayRepeat: true
    })
    .pipe(
      Effect.catchTag("RemoteInvalid", () => Effect.void),
      Effect.tapError(destinations.failed)
    )

  const envelope = (edus: ReadonlyArray<EduContent>) => ({
    origin: serverName,
    destination,
    prev_ids: [],
    pdus: [],
    ...(edus.length === 0 ? {} : { edus: edus.map((edu) => ({ ...edu, origin: serverName, destination })) })
  })

  /** What this server cannot encode was not sent, and says nothing about the other one: it is sent with well-formed text. */
  const encodable = <A, E extends RemoteError>(
    edus: ReadonlyArray<EduContent>,
    send: (edus: ReadonlyArray<EduContent>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> =>
    Effect.catchIf(
      send(edus),
      (error) => error._tag === "RemoteInvalid" && error.isUnsent === true,
      () => send(edus.map(wellFormedEdu))
    )

  /** The request of a transaction with PDUs, stored before it is sent. Undefined if another one is in flight. */
  const prepare = Effect.fnUntraced(function* (stored: NextTransaction, edus: ReadonlyArray<EduContent>) {
    if (stored.request !== undefined) return stored.request
    const pdus = yield* rooms.toPdus(stored.events)
    const request = yield* encodable(edus, (some) =>
      client.prepareTransaction({
        ...envelope(some),
        transaction_id: stored.transactionId,
        ts: stored.ts,
        prev_ids: stored.prevIds,
        pdus
      })
    )
    if (!stored.isReserved && !(yield* store.prepare(destination, stored, request, fence))) return
    withoutEdus = edus.length === 0 ? stored.transactionId : undefined
    return request
  })

  /** A transaction of EDUs alone. */
  const sendEdus = Effect.fnUntraced(function* (edus: ReadonlyArray<EduContent>, durable: EduTransaction | undefined) {
    if (durable === undefined) yield* fences.check(fence)
    const transaction_id = durable?.transactionId ?? randomBytes(12).toString("base64url")
    const ts = durable?.ts ?? (yield* Clock.currentTimeMillis)
    return yield* encodable(edus, (some) => client.sendEdus({ ...envelope(some), transaction_id, ts }))
  })

  return {
    probe,
    /** Sends a transaction; undefined if another one is in flight, which is sent first. */
    send: Effect.fnUntraced(function* ({ durable, edus, stored }: Outgoing) {
      if (stored === undefined) return yield* sendEdus(edus, durable)
      const request = yield* prepare(stored, edus)
      return request === undefined ? undefined : yield* client.sendTransaction(destination, request)
    }),
    /** Whether the transaction has no EDUs for sure. */
    hasNoEdus: (transactionId: string) => withoutEdus === transactionId
  }
})

/** What `makePeerSending` makes. */
export type PeerSending = Effect.Success<ReturnType<typeof makePeerSending>>
