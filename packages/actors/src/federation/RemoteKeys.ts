/**
 * The keys of other home servers: fetched from the server itself, checked, and kept in the database until they expire. Keys
 * that the server has replaced still verify what was signed before.
 *
 * Concurrent requests for a server's keys share one fetch. An unknown key is fetched at once. Failed fetches are repeated at
 * growing intervals (`FetchPace`); a request from that server itself ends the interval.
 *
 * Keys that their own server does not publish, because it is away or has lost them, can be vouched for by others: the
 * notaries that the operator trusts, and in a room the server through which this one joined it. A vouched key is limited:
 *
 * - It verifies only what was signed before the server itself was first asked, unless that server confirms the key.
 * - For PDUs it is valid in the rooms of its voucher. For requests of servers that were never reached it is valid for
 *   transactions and for reading rooms. Other requests need the word of one of the operator's notaries.
 * - Earlier keys of this server, from before it was installed anew, verify what was signed before that.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { VerifyKeys } from "@greenroom/room/Signing"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import type { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Layer, type PubSub } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { FederationConfig } from "./FederationConfig.ts"
import type { FederationTransport } from "./FederationTransport.ts"
import { FetchPace } from "./internal/FetchPace.ts"
import { type KeyUse, makeKeyFetches } from "./internal/KeyFetches.ts"
import { makeKeyNotaries } from "./internal/KeyNotaries.ts"
import { choose, isMet, type KeyNeed, makeKnownKeys, type Needs, type Trusted } from "./internal/KnownKeys.ts"

export type { KeyNeed } from "./internal/KnownKeys.ts"

/**
 * How long PDUs wait for the keys of all requested servers, in ms. Keys that arrive later are used the next time.
 */
const directTime = 10_000

/**
 * How many servers are asked at a time for the PDUs of one list: of those that answered last, and as many of the others, of which the list
 * may name thousands that are made up.
 */
const directAtOnce = 32

/** How long a server that makes a request waits at most, in ms, until it is asked for its keys again. */
const presentWait = 5_000

/** How often a server is asked without a wait where others want to know its keys from us. */
const refreshesAtOnce = 4

/** The keys of one server. */
export interface KeyRing {
  /** The keys that were valid then. Empty if the server has none of them. */
  readonly choose: (need: KeyNeed) => VerifyKeys
  /** Set if the server may have further keys: why they could not be fetched. */
  readonly problem: string | undefined
}

const make = Effect.gen(function* () {
  const { serverName: ourName } = yield* HomeServerConfig
  const { keyNotaries = [] } = yield* FederationConfig
  const trustedNotaries = new Set(keyNotaries)
  const pace = new FetchPace()
  const refreshPace = new FetchPace(refreshesAtOnce)
  const knownKeys = yield* makeKnownKeys(trustedNotaries)
  const { keysOf, learned } = knownKeys
  const { ask, hasAnswered, isAsking } = yield* makeKeyFetches(knownKeys, (server) =>
    Effect.map(monotonicMillis, (now) => {
      pace.asked(server, now, false)
      refreshPace.asked(server, now, false)
    })
  )

  /**
   * Asks the server, if it may be asked now, and notes whether its keys met the needs. Returns the reason why a later
   * attempt may.
   */
  const askFor = Effect.fnUntraced(function* (
    server: ServerName,
    needs: Needs,
    trusted: Trusted,
    use: KeyUse,
    owner?: unknown
  ) {
    if (server === ourName) return undefined
    const wait = use === "request" ? presentWait : undefined
    if (!isAsking(server) && !pace.mayAsk(server, yield* monotonicMillis, wait)) return "it was asked a moment ago"
    const { isOwn, problem } = yield* ask(server, use, owner)
    if (problem !== undefined) return problem
    const wasOfUse = isMet(yield* keysOf(server), needs, trusted, yield* Clock.currentTimeMillis)
    if (isOwn) pace.asked(server, yield* monotonicMillis, wasOfUse)
    return undefined
  })

  // A notary signs with keys that are found in the same way.
  const { consult } = yield* makeKeyNotaries(knownKeys, pace, (notary, keyIds) =>
    Effect.map(find(notary, [{ keyIds }]), (ring) => ring.choose({ keyIds }))
  )

  const unmetOf = Effect.fnUntraced(function* (all: ReadonlyMap<ServerName, Needs>, trusted: Trusted) {
    const now = yield* Clock.currentTimeMillis
    const unmet = new Map<ServerName, Needs>()
    for (const [server, needs] of all) if (!isMet(yield* keysOf(server), needs, trusted, now)) unmet.set(server, needs)
    return unmet
  })

  /** Asks notaries, one after the other, for the keys that are still missing. */
  const consultAll = Effect.fnUntraced(function* (
    notaries: ReadonlyArray<ServerName>,
    all: ReadonlyMap<ServerName, Needs>,
    trusted: Trusted
  ) {
    for (const notary of notaries) {
      const left = yield* unmetOf(all, trusted)
      if (left.size === 0) return
      yield* consult(notary, left, trusted)
    }
  })

  const ringOf = Effect.fnUntraced(function* (server: ServerName, trusted: Trusted, problem: string | undefined) {
    const [keys, now] = [yield* keysOf(server), yield* Clock.currentTimeMillis]
    return { choose: (need) => choose(keys, need, trusted, now), problem } satisfies KeyRing
  })

  const ringsOf = Effect.fnUntraced(function* (
    servers: Iterable<ServerName>,
    trusted: Trusted,
    problems: ReadonlyMap<ServerName, string | undefined>
  ) {
    const rings = new Map<ServerName, KeyRing>()
    for (const server of servers) rings.set(server, yield* ringOf(server, trusted, problems.get(server)))
    return rings
  })

  const find = Effect.fnUntraced(function* (
    server: ServerName,
    needs: Needs,
    acceptsVouched = false,
    owner?: string
  ): Effect.fn.Return<KeyRing> {
    const trusted = acceptsVouched ? undefined : trustedNotaries
    const all = new Map([[server, needs]])
    const isKnown = (yield* unmetOf(all, trusted)).size === 0
    const problem = isKnown ? undefined : yield* askFor(server, needs, trusted, "request", owner)
    if (problem !== undefined) yield* consultAll(keyNotaries, all, trusted)
    return yield* ringOf(server, trusted, problem)
  })

  const findAll = Effect.fnUntraced(function* (
    all: ReadonlyMap<ServerName, Needs>,
    vouchers: Effect.Effect<ReadonlyArray<ServerName>>
  ) {
    const problems = new Map<ServerName, string | undefined>()
    if ((yield* unmetOf(all, trustedNotaries)).size === 0) return yield* ringsOf(all.keys(), trustedNotaries, problems)
    const notaries = [...new Set([...keyNotaries, ...(yield* vouchers)])].filter((entry) => entry !== ourName)
    const trusted = new Set(notaries)
    const unmet = yield* unmetOf(all, trusted)
    for (const server of unmet.keys()) if (server !== ourName) problems.set(server, "it has not answered yet")
    const owner = Symbol("the PDUs")
    const [others, answering] = yield* Effect.partition(unmet, (entry) =>
      Effect.flatMap(hasAnswered(entry[0]), (has) => (has ? Effect.succeed(entry) : Effect.fail(entry)))
    )
    const askAll = (servers: ReadonlyArray<readonly [ServerName, Needs]>) =>
      Effect.forEach(
        servers,
        ([server, needs]) =>
          Effect.map(askFor(server, needs, trusted, "PDUs", owner), (problem) => {
            problems.set(server, problem)
          }),
        { concurrency: directAtOnce, discard: true }
      )
    yield* Effect.timeoutOption(
      Effect.all([askAll(answering), askAll(others)], { concurrency: 2, discard: true }),
      directTime
    )
    yield* consultAll(notaries, unmet, trusted)
    return yield* ringsOf(all.keys(), trusted, problems)
  })

  const refresh = Effect.fnUntraced(function* (server: ServerName, keyIds: ReadonlySet<string>, query?: unknown) {
    if (server === ourName || !refreshPace.mayAsk(server, yield* monotonicMillis)) return
    const { problem } = yield* ask(server, query === undefined ? "PDUs" : "query", query)
    // A failure has been noted.
    if (problem !== undefined) return
    const { keys } = yield* keysOf(server)
    const hasAll = [...keyIds].every((keyId) => keys.some((key) => key.keyId === keyId))
    refreshPace.asked(server, yield* monotonicMillis, hasAll)
  })

  return RemoteKeys.of({ find, findAll, refresh, learned })
})

/** The signing keys of other home servers. */
export class RemoteKeys extends Context.Service<
  RemoteKeys,
  {
    /**
     * The keys of a server that makes a request, fetched if the known ones do not meet all needs. Our own keys need no
     * request. With `acceptsVouched` keys that any asked server vouches for count, else only those of the operator's
     * notaries. Anybody can name servers in requests: those of one `owner` wait for their turn together.
     */
    readonly find: (
      server: ServerName,
      needs: Needs,
      acceptsVouched?: boolean,
      owner?: string
    ) => Effect.Effect<KeyRing>
    /**
     * The keys of all servers that have signed PDUs. `vouchers`, which are looked up only where keys are missing, are asked for those that
     * the servers do not publish.
     */
    readonly findAll: (
      needs: ReadonlyMap<ServerName, Needs>,
      vouchers: Effect.Effect<ReadonlyArray<ServerName>>
    ) => Effect.Effect<ReadonlyMap<ServerName, KeyRing>>
    /**
     * Asks a server for its keys, among them these, whatever is known of them; not too often. Servers that are asked for
     * one `query` of others wait for their turn together, and apart from those whose PDUs wait for the keys.
     */
    readonly refresh: (server: ServerName, keyIds: ReadonlySet<string>, query?: unknown) => Effect.Effect<void>
    /** The servers of which keys were learned. */
    readonly learned: PubSub.PubSub<ServerName>
  }
>()("greenroom/actors/RemoteKeys") {
  static readonly layer: Layer.Layer<
    RemoteKeys,
    never,
    FederationConfig | FederationTransport | RemoteKeyStore | SigningKeys | HomeServerConfig
  > = Layer.effect(RemoteKeys, make)
}
