/**
 * The keys of other home servers: fetched from the server itself, checked, kept in the database until they expire.
 *
 * A server is asked once at a time whatever the number of those who want its keys, and not again for two minutes,
 * whether it answered or not. Keys that it replaced stay good for what was signed before.
 *
 * Source: "Security" of the specification.
 */
import { keyPath } from "@greenroom/protocol/federation/FederationApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { VerifyKeys } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { type RemoteKey, RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Exit, Layer, Result, Semaphore } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { FederationTransport } from "./FederationTransport.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused } from "./RemoteError.ts"
import { readKeyObject, shortestLifetime } from "./ServerKeyObject.ts"
import { parseJson } from "./SlicedJson.ts"

/** How long after a server was asked it is asked again at the earliest. */
export const refetchInterval = shortestLifetime

/** How many servers are asked at once, so that made-up origins cost little. */
const maxFetches = 32

/** How many servers are remembered in memory. */
const capacity = 10_000

const maxKeyObjectBytes = 64 * 1024
const fetchTimeout = 10_000

/** What keys are for. */
export interface KeyNeed {
  readonly keyIds: ReadonlySet<string>
  /** When something was signed with one of them (ms since 1970). Absent: they sign requests now. */
  readonly signedAt?: number
}

/** The keys of one server. */
export interface KeyRing {
  /** Those of the keys that were good then. Empty where the server has none of them. */
  readonly choose: (need: KeyNeed) => VerifyKeys
  /** Why the server could not be asked, where it had to be. */
  readonly problem: RemoteError | undefined
}

type Keys = ReadonlyArray<RemoteKey>

/** Whether the key was good for what was signed at that time; undefined asks for a key to sign with now. */
const isGood = (key: RemoteKey, signedAt: number | undefined, now: number): boolean => {
  if (signedAt === undefined) return key.expiredAt === undefined && now <= key.validUntil
  return key.expiredAt === undefined ? Math.min(signedAt, now) <= key.validUntil : signedAt < key.expiredAt
}

const choose = (keys: Keys, { keyIds, signedAt }: KeyNeed, now: number): VerifyKeys =>
  new Map(
    keys.filter((key) => keyIds.has(key.keyId) && isGood(key, signedAt, now)).map((key) => [key.keyId, key.publicKey])
  )

const ringOf = (keys: Keys, now: number, problem?: RemoteError): KeyRing => ({
  choose: (need) => choose(keys, need, now),
  problem
})

const make = Effect.gen(function* () {
  const { serverName: ourName } = yield* HomeServerConfig
  const transport = yield* FederationTransport
  const store = yield* RemoteKeyStore
  const ours = yield* SigningKeys
  const fetches = yield* Semaphore.make(maxFetches)

  const stored = yield* MonotonicCache.make<ServerName, Keys>({
    lookup: store.find,
    capacity,
    timeToLive: refetchInterval
  })

  const download = Effect.fnUntraced(function* (destination: ServerName) {
    const response = yield* transport.request({
      destination,
      method: "GET",
      uri: keyPath,
      maxBytes: maxKeyObjectBytes,
      timeout: fetchTimeout
    })
    const { body, status } = response
    if (status === 200) return body
    return yield* new RemoteRefused({ destination, status, errcode: "M_UNKNOWN", error: "no keys" })
  })

  const fetch = Effect.fn("RemoteKeys.fetch")(function* (destination: ServerName) {
    const body = yield* fetches.withPermit(download(destination))
    const json = yield* Effect.mapError(parseJson(body), ({ reason }) => new RemoteInvalid({ destination, reason }))
    const read = readKeyObject(json, destination, yield* Clock.currentTimeMillis)
    if (Result.isFailure(read)) return yield* new RemoteInvalid({ destination, reason: read.failure })
    yield* store.put(destination, read.success)
    yield* MonotonicCache.invalidate(stored, destination)
    return yield* MonotonicCache.get(stored, destination)
  })

  const fetched = yield* MonotonicCache.makeWith<ServerName, Keys, RemoteError>(
    (destination) =>
      Effect.tapError(fetch(destination), (error) =>
        Effect.logWarning("The keys of a server could not be fetched").pipe(
          Effect.annotateLogs({ destination, reason: error._tag === "RemoteRefused" ? error.status : error.reason })
        )
      ),
    { capacity, timeToLive: (exit) => (Exit.hasInterrupts(exit) ? 0 : refetchInterval) }
  )

  const known = (server: ServerName): Effect.Effect<Keys> =>
    server === ourName
      ? Effect.map(ours.list, (keys) =>
          keys.map((key) => ({ ...key, validUntil: Number.MAX_SAFE_INTEGER, expiredAt: undefined, fetchedAt: 0 }))
        )
      : MonotonicCache.get(stored, server)

  const find = Effect.fnUntraced(function* (server: ServerName, needs: ReadonlyArray<KeyNeed>) {
    const now = yield* Clock.currentTimeMillis
    const keys = yield* known(server)
    const isEnough = needs.every((need) => choose(keys, need, now).size > 0)
    if (isEnough || server === ourName) return ringOf(keys, now)
    return yield* Effect.match(MonotonicCache.get(fetched, server), {
      onSuccess: (fresh) => ringOf(fresh, now),
      onFailure: (problem) => ringOf(keys, now, problem)
    })
  })

  return RemoteKeys.of({ find })
})

export class RemoteKeys extends Context.Service<
  RemoteKeys,
  {
    /**
     * The keys of a server, fetched where what is known of them does not meet all of the needs. Our own are found
     * without asking.
     */
    readonly find: (server: ServerName, needs: ReadonlyArray<KeyNeed>) => Effect.Effect<KeyRing>
  }
>()("greenroom/actors/RemoteKeys") {
  static readonly layer: Layer.Layer<
    RemoteKeys,
    never,
    FederationTransport | RemoteKeyStore | SigningKeys | HomeServerConfig
  > = Layer.effect(RemoteKeys, make)
}
