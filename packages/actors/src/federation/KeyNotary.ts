/**
 * The keys of this server and of others, as a notary returns them. Those of others are as their servers signed them, with
 * our signature added: for servers that cannot reach the origin.
 *
 * An object is renewed after half of its lifetime, unless the request is about an earlier time. An object that cannot be
 * renewed is returned as it is, even if it has expired, since it still verifies old signatures.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { signJson } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { type KeptKeyObject, RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Layer, Result } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { sliced } from "../runtime/Slices.ts"
import { RemoteKeys } from "./RemoteKeys.ts"
import { makeKeyObject } from "./ServerKeyObject.ts"

/** The highest age of our own object: this long after a rotation on another node the old one may still be served. */
const freshness = "10 seconds"

/** How many servers are asked for one query, and how long a query waits for them. */
const refreshesPerQuery = 100
const refreshTime = "10 seconds"

/** The most bytes of key objects that one answer has. Anybody can publish large ones under thousands of names. */
const maxAnswerBytes = 4 * 1024 * 1024

/** The keys of a server that a request names; all of them, if it names none. */
export interface KeyCriteria {
  readonly keyIds: ReadonlySet<string>
  /** The time until which the keys should be valid, in ms since 1970. */
  readonly validUntil: number
}

const has = (object: JsonObject, keyId: string): boolean =>
  [object.verify_keys, object.old_verify_keys].some((keys) => isJsonObject(keys) && Object.hasOwn(keys, keyId))

/** Whether the stored objects of a server answer the query. The newest object is the first. */
const isEnough = (kept: ReadonlyArray<KeptKeyObject>, { keyIds, validUntil }: KeyCriteria, now: number): boolean => {
  const [newest] = kept
  if (newest === undefined) return false
  const isYoung = validUntil < now || now < (newest.fetchedAt + newest.validUntil) / 2
  const isFresh = isYoung && newest.validUntil >= validUntil
  return isFresh && [...keyIds].every((keyId) => kept.some(({ object }) => has(object, keyId)))
}

/** The objects that have keys that are asked for; all, if none has. */
const chosen = (kept: ReadonlyArray<KeptKeyObject>, { keyIds }: KeyCriteria): ReadonlyArray<KeptKeyObject> => {
  const asked = kept.filter(({ object }) => [...keyIds].some((keyId) => has(object, keyId)))
  return asked.length > 0 ? asked : kept
}

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const signingKeys = yield* SigningKeys
  const store = yield* RemoteKeyStore
  const remoteKeys = yield* RemoteKeys

  const objects = yield* MonotonicCache.make({
    lookup: Effect.fnUntraced(function* () {
      const published = yield* signingKeys.list
      return makeKeyObject(serverName, yield* signingKeys.current, published, yield* Clock.currentTimeMillis)
    }),
    capacity: 1,
    timeToLive: freshness
  })
  const own = MonotonicCache.get(objects, serverName)

  const keptOf = Effect.fnUntraced(function* (servers: ReadonlyArray<ServerName>) {
    const kept = Map.groupBy(yield* store.objects(servers, maxAnswerBytes), (object) => object.serverName)
    return (server: ServerName) => kept.get(server) ?? []
  })

  /** Asks the servers whose stored keys do not answer the query, up to a limit. */
  const refreshStale = Effect.fnUntraced(function* (asked: ReadonlyMap<ServerName, KeyCriteria>) {
    const now = yield* Clock.currentTimeMillis
    const kept = yield* keptOf([...asked.keys()])
    const stale = [...asked].filter(([server, criteria]) => !isEnough(kept(server), criteria, now))
    yield* Effect.forEach(
      stale.slice(0, refreshesPerQuery),
      ([server, { keyIds }]) => remoteKeys.refresh(server, keyIds, asked),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.timeoutOption(refreshTime))
  })

  const countersign = Effect.fnUntraced(function* (objects: ReadonlyArray<JsonObject>) {
    const key = yield* signingKeys.current
    return yield* sliced(function* () {
      const signed: Array<JsonObject> = []
      for (const object of objects) {
        signed.push(
          ...Result.match(signJson(object, key), { onSuccess: (jsonObject) => [jsonObject], onFailure: () => [] })
        )
        yield
      }
      return signed
    })
  })

  const query = Effect.fn("KeyNotary.query")(function* (asked: ReadonlyMap<ServerName, KeyCriteria>) {
    const others = new Map([...asked].filter(([server]) => server !== serverName))
    yield* refreshStale(others)
    const kept = yield* keptOf([...others.keys()])
    const signed = yield* countersign(
      [...others].flatMap(([server, criteria]) => chosen(kept(server), criteria).map(({ object }) => object))
    )
    return asked.has(serverName) ? [yield* own, ...signed] : signed
  })

  return KeyNotary.of({ own, query })
})

/** Signing keys of this server and others, with the signature of this server. */
export class KeyNotary extends Context.Service<
  KeyNotary,
  {
    /** The keys of this server, signed by the current one. */
    readonly own: Effect.Effect<JsonObject>
    /**
     * The known keys of the servers, each object signed by its server and by us. Servers without known keys that
     * do not answer are left out.
     */
    readonly query: (asked: ReadonlyMap<ServerName, KeyCriteria>) => Effect.Effect<ReadonlyArray<JsonObject>>
  }
>()("greenroom/actors/federation/KeyNotary") {
  static readonly layer: Layer.Layer<KeyNotary, never, RemoteKeys | RemoteKeyStore | SigningKeys | HomeServerConfig> =
    Layer.effect(KeyNotary, make)
}
