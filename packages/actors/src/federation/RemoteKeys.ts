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
 * Source: "Security" of the draft; "Retrieving server keys" of today's specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { type VerifyKeys, verifyJson } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { type RemoteKey, RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Array as Arr, Clock, Context, Effect, Fiber, Layer, PubSub, Result, Semaphore } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { FederationConfig } from "./FederationConfig.ts"
import { FederationTransport } from "./FederationTransport.ts"
import { FetchPace } from "./internal/FetchPace.ts"
import { makeKeyDownload, type WantedKeys } from "./internal/KeyDownload.ts"
import { type RemoteError, RemoteInvalid } from "./RemoteError.ts"
import { readKeyObject } from "./ServerKeyObject.ts"

/** How many servers are asked at once, so that made-up origins cost little. */
const maxFetches = 64

/**
 * How long PDUs wait for the keys of all requested servers, in ms. Keys that arrive later are used the next time.
 */
const directTime = 10_000

/** How long a server that makes a request waits at most, in ms, until it is asked for its keys again. */
const presentWait = 5_000

/** About how many servers a notary is asked at once, and how many key objects of each are read. */
const serversPerQuery = 200
const maxObjectsPerServer = 10

/** How often a server is asked without a wait where others want to know its keys from us. */
const refreshesAtOnce = 4

/** How many servers are remembered in memory, and for how long, in ms. */
const capacity = 10_000
const rememberedFor = 120_000

/** The use of a key. */
export interface KeyNeed {
  readonly keyIds: ReadonlySet<string>
  /** When something was signed with one of them (ms since 1970). Absent: they sign requests now. */
  readonly signedAt?: number
  /** Any key that the server has or had will do, as in room versions before 5. */
  readonly atAnyTime?: boolean
}

/** The keys of one server. */
export interface KeyRing {
  /** The keys that were valid then. Empty if the server has none of them. */
  readonly choose: (need: KeyNeed) => VerifyKeys
  /** Set if the server may have further keys: why they could not be fetched. */
  readonly problem: string | undefined
}

type Needs = ReadonlyArray<KeyNeed>

/** The known keys of a server. */
interface Known {
  readonly keys: ReadonlyArray<RemoteKey>
  /**
   * When the server itself was first asked, or our own server was installed: since then no one else knows its keys better.
   */
  readonly metAt: number
}

/** The servers whose word on the keys of others counts; `undefined`: every server that was ever asked. */
type Trusted = ReadonlySet<ServerName> | undefined

const never = Number.POSITIVE_INFINITY

/** Why the keys of a server do not count. Those of all servers seem to have expired where this one's clock is ahead. */
const expired = "the key object has expired, unless the clock of this machine is wrong"

/** Whether the key was valid for the signed content. */
const isGood = (key: RemoteKey, metAt: number, { atAnyTime, signedAt }: KeyNeed, trusted: Trusted, now: number) => {
  if (key.vouchers !== undefined) {
    if ((signedAt ?? now) >= metAt) return false
    if (trusted !== undefined && !key.vouchers.some((voucher) => trusted.has(voucher))) return false
  }
  if (atAnyTime === true) return true
  if (signedAt === undefined) return key.expiredAt === undefined && now <= key.validUntil
  return key.expiredAt === undefined ? signedAt <= key.validUntil : signedAt < key.expiredAt
}

const choose = ({ keys, metAt }: Known, need: KeyNeed, trusted: Trusted, now: number): VerifyKeys =>
  new Map(
    keys
      .filter((key) => need.keyIds.has(key.keyId) && isGood(key, metAt, need, trusted, now))
      .map((key) => [key.keyId, key.publicKey])
  )

/** All that is asked of a server, for a notary. */
const wantedOf = (needs: Needs, now: number) => ({
  keyIds: new Set(needs.flatMap(({ keyIds }) => [...keyIds])),
  validUntil: Math.min(now, Math.max(...needs.map(({ signedAt = now }) => signedAt)))
})

const reasonOf = (error: RemoteError): string =>
  error._tag === "RemoteRefused" ? `status ${error.status}` : error.reason

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const { serverName: ourName } = yield* HomeServerConfig
  const { keyNotaries = [] } = yield* FederationConfig
  const trustedNotaries = new Set(keyNotaries)
  const download = makeKeyDownload(yield* FederationTransport)
  const store = yield* RemoteKeyStore
  const ours = yield* SigningKeys
  const fetches = yield* Semaphore.make(maxFetches)
  const learned = yield* PubSub.sliding<ServerName>(1_000)
  const pace = new FetchPace()
  const refreshPace = new FetchPace(refreshesAtOnce)
  /** Servers that are being asked. */
  const running = new Map<ServerName, Fiber.Fiber<string | undefined>>()

  // The known keys

  const stored = yield* MonotonicCache.make<ServerName, ReadonlyArray<RemoteKey>>({
    lookup: store.find,
    capacity,
    timeToLive: rememberedFor
  })

  const ourKeys = Effect.map(ours.list, (keys): Known => {
    // Our own signatures are valid, whenever the nodes followed a rotation.
    const own = keys.map(({ createdAt, keyId, publicKey }) => ({
      keyId,
      publicKey,
      validUntil: never,
      expiredAt: undefined,
      firstFetchedAt: createdAt,
      vouchers: undefined
    }))
    return { keys: own, metAt: Math.min(...keys.map(({ createdAt }) => createdAt)) }
  })

  const known = Effect.fnUntraced(function* (server: ServerName): Effect.fn.Return<Known> {
    const keys = yield* MonotonicCache.get(stored, server)
    if (server === ourName) {
      const own = yield* ourKeys
      return { ...own, keys: [...own.keys, ...keys.filter(({ vouchers }) => vouchers !== undefined)] }
    }
    const met = keys.filter(({ vouchers }) => vouchers === undefined).map(({ firstFetchedAt }) => firstFetchedAt)
    return { keys, metAt: Math.min(never, ...met) }
  })

  const isMet = (known: Known, needs: Needs, trusted: Trusted, now: number) =>
    needs.every((need) => choose(known, need, trusted, now).size > 0)

  const remember = Effect.fnUntraced(function* (server: ServerName, object: JsonObject, voucher?: ServerName) {
    const now = yield* Clock.currentTimeMillis
    const read = readKeyObject(object, server, now, voucher !== undefined)
    if (Result.isFailure(read)) return read.failure
    yield* store.put(server, { ...read.success, object, ...(voucher === undefined ? {} : { voucher }) })
    yield* MonotonicCache.invalidate(stored, server)
    yield* PubSub.publish(learned, server)
    // Old signatures can be checked by these keys; for new ones the server may have others that we do not know.
    return voucher === undefined && read.success.validUntil <= now ? expired : undefined
  })

  // Asking the server itself

  const fetch = Effect.fn("RemoteKeys.fetch")(function* (destination: ServerName) {
    const object = yield* fetches.withPermit(download.own(destination))
    const problem = yield* remember(destination, object)
    if (problem !== undefined) return yield* new RemoteInvalid({ destination, reason: problem })
  })

  /** Asks the server once, for all waiting callers. Gives the failure. */
  const ask = (server: ServerName): Effect.Effect<string | undefined> =>
    Effect.suspend(() => {
      const current = running.get(server)
      if (current !== undefined) return Fiber.join(current)
      const asking = Effect.matchEffect(fetch(server), {
        onSuccess: () => Effect.succeed(undefined),
        onFailure: (error) =>
          Effect.as(
            Effect.logWarning("The keys of a server could not be fetched").pipe(
              Effect.annotateLogs({ destination: server, reason: reasonOf(error) })
            ),
            reasonOf(error)
          )
      })
      const work = Effect.ensuring(
        asking,
        Effect.sync(() => running.delete(server))
      )
      return Effect.flatMap(Effect.forkIn(work, scope), (fiber) => {
        running.set(server, fiber)
        return Fiber.join(fiber)
      })
    })

  /**
   * Asks the server, if it may be asked now, and notes whether the needs were met. Gives the reason why a later attempt
   * may.
   */
  const askFor = Effect.fnUntraced(function* (server: ServerName, needs: Needs, trusted: Trusted, wait?: number) {
    if (server === ourName) return undefined
    const isAsked = running.has(server)
    if (!isAsked && !pace.mayAsk(server, yield* monotonicMillis, wait)) return "it was asked a moment ago"
    const problem = yield* ask(server)
    const now = yield* Clock.currentTimeMillis
    const wasOfUse = problem === undefined && isMet(yield* known(server), needs, trusted, now)
    if (!isAsked) pace.asked(server, yield* monotonicMillis, wasOfUse)
    return problem
  })

  // Asking others

  /** Stores a notary's key objects of the servers that it was asked about, where it has signed them. */
  const takeVouched = Effect.fnUntraced(function* (notary: ServerName, wanted: WantedKeys, object: JsonObject) {
    const server = object.server_name as ServerName
    const signatures = isJsonObject(object.signatures) ? object.signatures[notary] : undefined
    if (!wanted.has(server) || !isJsonObject(signatures)) return
    const ring = yield* find(notary, [{ keyIds: new Set(Object.keys(signatures)) }])
    const keys = ring.choose({ keyIds: new Set(Object.keys(signatures)) })
    const { [notary]: _, ...others } = object.signatures as JsonObject
    const isSigned = Result.isSuccess(verifyJson(object, notary, keys))
    const problem = isSigned
      ? yield* remember(server, { ...object, signatures: others }, notary)
      : "it is not signed by it"
    if (problem === undefined) return yield* Effect.logInfo(`${notary} vouches for keys of ${server}`)
    yield* Effect.logWarning(`The key object of ${server} from the notary ${notary} is refused: ${problem}`)
  })

  const askNotary = Effect.fnUntraced(function* (notary: ServerName, wanted: WantedKeys) {
    const objects = yield* download.vouched(notary, wanted)
    for (const object of objects.slice(0, maxObjectsPerServer * wanted.size)) yield* takeVouched(notary, wanted, object)
  })

  /** Asks a notary for the keys that are still missing, about each server as often as the pace allows. */
  const consult = Effect.fnUntraced(function* (
    notary: ServerName,
    unmet: ReadonlyMap<ServerName, Needs>,
    trusted: Trusted
  ) {
    const now = yield* Clock.currentTimeMillis
    const begun = yield* monotonicMillis
    const name = (server: ServerName) => `${notary} ${server}`
    const due = [...unmet].filter(([server]) => server !== notary && pace.mayAsk(name(server), begun))
    yield* Effect.forEach(
      Arr.chunksOf(due, serversPerQuery),
      (chunk) => askNotary(notary, new Map(chunk.map(([server, needs]) => [server, wantedOf(needs, now)]))),
      { discard: true }
    ).pipe(
      Effect.catch((error) => Effect.logInfo(`The notary ${notary} gave no keys of other servers: ${reasonOf(error)}`))
    )
    const then = yield* Clock.currentTimeMillis
    for (const [server, needs] of due) {
      pace.asked(name(server), yield* monotonicMillis, isMet(yield* known(server), needs, trusted, then))
    }
  })

  // Finding

  const unmetOf = Effect.fnUntraced(function* (all: ReadonlyMap<ServerName, Needs>, trusted: Trusted) {
    const now = yield* Clock.currentTimeMillis
    const unmet = new Map<ServerName, Needs>()
    for (const [server, needs] of all) if (!isMet(yield* known(server), needs, trusted, now)) unmet.set(server, needs)
    return unmet
  })

  const ringOf = Effect.fnUntraced(function* (server: ServerName, trusted: Trusted, problem: string | undefined) {
    const [keys, now] = [yield* known(server), yield* Clock.currentTimeMillis]
    return { choose: (need) => choose(keys, need, trusted, now), problem } satisfies KeyRing
  })

  const find = Effect.fnUntraced(function* (
    server: ServerName,
    needs: Needs,
    acceptsVouched = false
  ): Effect.fn.Return<KeyRing> {
    const trusted = acceptsVouched ? undefined : trustedNotaries
    const all = new Map([[server, needs]])
    const isKnown = (yield* unmetOf(all, trusted)).size === 0
    const problem = isKnown ? undefined : yield* askFor(server, needs, trusted, presentWait)
    if (problem !== undefined) for (const notary of keyNotaries) yield* consult(notary, all, trusted)
    return yield* ringOf(server, trusted, problem)
  })

  const findAll = Effect.fnUntraced(function* (
    all: ReadonlyMap<ServerName, Needs>,
    vouchers: ReadonlyArray<ServerName>
  ) {
    const notaries = [...new Set([...keyNotaries, ...vouchers])].filter((entry) => entry !== ourName)
    const trusted = new Set(notaries)
    const problems = new Map<ServerName, string | undefined>()
    const unmet = yield* unmetOf(all, trusted)
    for (const server of unmet.keys()) if (server !== ourName) problems.set(server, "it has not answered yet")
    yield* Effect.forEach(
      unmet,
      ([server, needs]) =>
        Effect.map(askFor(server, needs, trusted), (problem) => {
          problems.set(server, problem)
        }),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.timeoutOption(directTime))
    for (const notary of notaries) {
      const left = yield* unmetOf(unmet, trusted)
      if (left.size > 0) yield* consult(notary, left, trusted)
    }
    const rings = new Map<ServerName, KeyRing>()
    for (const server of all.keys()) rings.set(server, yield* ringOf(server, trusted, problems.get(server)))
    return rings
  })

  const refresh = Effect.fnUntraced(function* (server: ServerName, keyIds: ReadonlySet<string>) {
    if (server === ourName || !refreshPace.mayAsk(server, yield* monotonicMillis)) return
    const problem = yield* ask(server)
    const { keys } = yield* known(server)
    const hasAll = [...keyIds].every((keyId) => keys.some((key) => key.keyId === keyId))
    refreshPace.asked(server, yield* monotonicMillis, problem === undefined && hasAll)
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
     * notaries.
     */
    readonly find: (server: ServerName, needs: Needs, acceptsVouched?: boolean) => Effect.Effect<KeyRing>
    /** The keys of all servers that have signed PDUs. `vouchers` are asked for those that the servers do not tell. */
    readonly findAll: (
      needs: ReadonlyMap<ServerName, Needs>,
      vouchers: ReadonlyArray<ServerName>
    ) => Effect.Effect<ReadonlyMap<ServerName, KeyRing>>
    /** Asks a server for its keys, among them these, whatever is known of them; not too often. */
    readonly refresh: (server: ServerName, keyIds: ReadonlySet<string>) => Effect.Effect<void>
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
