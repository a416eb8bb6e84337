/**
 * The keys that are known of servers, in the database and in memory, and which of them are valid for what was signed.
 *
 * Source: "Retrieving server keys" of the server-server specification; "Signing key validity period" of room version 5.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { VerifyKeys } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { type RemoteKey, RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Effect, PubSub, Result } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { readKeyObject } from "../ServerKeyObject.ts"

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

/** All that was signed by a server. */
export type Needs = ReadonlyArray<KeyNeed>

/** The known keys of a server. */
export interface Known {
  readonly keys: ReadonlyArray<RemoteKey>
  /**
   * When the server itself was first asked, or this server was installed. From then on no notary can know its keys better.
   */
  readonly metAt: number
}

/** The servers whose word on the keys of others counts; `undefined`: every server that was ever asked. */
export type Trusted = ReadonlySet<ServerName> | undefined

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

/** The keys that are valid for the need. */
export const choose = ({ keys, metAt }: Known, need: KeyNeed, trusted: Trusted, now: number): VerifyKeys =>
  new Map(
    keys
      .filter((key) => need.keyIds.has(key.keyId) && isGood(key, metAt, need, trusted, now))
      .map((key) => [key.keyId, key.publicKey])
  )

/** Whether there is a key for each need. */
export const isMet = (known: Known, needs: Needs, trusted: Trusted, now: number) =>
  needs.every((need) => choose(known, need, trusted, now).size > 0)

/** `trustedNotaries` are those of the operator: their word counts more than that of other vouchers. */
export const makeKnownKeys = Effect.fnUntraced(function* (trustedNotaries: ReadonlySet<ServerName>) {
  const { serverName: ourName } = yield* HomeServerConfig
  const store = yield* RemoteKeyStore
  const ours = yield* SigningKeys
  const learned = yield* PubSub.sliding<ServerName>(1_000)

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

  /** What is known of a server. */
  const keysOf = Effect.fnUntraced(function* (server: ServerName): Effect.fn.Return<Known> {
    const keys = yield* MonotonicCache.get(stored, server)
    if (server === ourName) {
      const own = yield* ourKeys
      return { ...own, keys: [...own.keys, ...keys.filter(({ vouchers }) => vouchers !== undefined)] }
    }
    const met = keys.filter(({ vouchers }) => vouchers === undefined).map(({ firstFetchedAt }) => firstFetchedAt)
    return { keys, metAt: Math.min(never, ...met) }
  })

  /** Stores a key object that the server itself, or `voucher`, has published. Returns the fault for which its keys do not count. */
  const remember = Effect.fnUntraced(function* (server: ServerName, object: JsonObject, voucher?: ServerName) {
    const now = yield* Clock.currentTimeMillis
    const read = readKeyObject(object, server, now, voucher !== undefined)
    if (Result.isFailure(read)) return read.failure
    const source = voucher === undefined ? {} : { voucher, isTrusted: trustedNotaries.has(voucher) }
    yield* store.put(server, { ...read.success, object, ...source })
    yield* MonotonicCache.invalidate(stored, server)
    yield* PubSub.publish(learned, server)
    // Old signatures can be checked by these keys; for new ones the server may have others that we do not know.
    return voucher === undefined && read.success.validUntil <= now ? expired : undefined
  })

  return { keysOf, remember, learned }
})

export type KnownKeys = Effect.Success<ReturnType<typeof makeKnownKeys>>
