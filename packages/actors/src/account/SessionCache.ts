/**
 * An LRU cache of the sessions of access tokens, so that a request needs no query. Synchronous, owned by `AccountSessions`.
 *
 * A token that is revoked during its lookup must not enter the cache: callers read `revocations` before the lookup and pass
 * it to `add`, which stores nothing if it has changed.
 */
import type { Session } from "../runtime/Session.ts"

/** A session of an access token, as kept in memory. */
export interface CachedSession {
  readonly session: Session
  /** Milliseconds since 1970; undefined if the token does not expire. */
  readonly expiresAt: number | undefined
}

/** The sessions of recently used access tokens in the memory of this node. */
export class SessionCache {
  /** How many times sessions were removed. */
  revocations = 0
  /** Oldest use first. */
  private readonly byToken = new Map<string, CachedSession>()
  private readonly tokens = new Map<number, string>()
  private readonly used = new Map<number, string | undefined>()
  private readonly capacity: number

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get(token: string, now: number, address?: string | undefined): Session | undefined {
    const cached = this.byToken.get(token)
    if (cached === undefined) return undefined
    this.byToken.delete(token)
    if (cached.expiresAt !== undefined && cached.expiresAt <= now) {
      this.tokens.delete(cached.session.tokenId)
      return undefined
    }
    this.byToken.set(token, cached)
    this.used.set(cached.session.tokenId, address)
    return cached.session
  }

  add(token: string, cached: CachedSession, revocations: number): void {
    if (revocations !== this.revocations) return
    this.byToken.set(token, cached)
    const former = this.tokens.get(cached.session.tokenId)
    if (former !== undefined && former !== token) this.byToken.delete(former)
    this.tokens.set(cached.session.tokenId, token)
    if (!this.used.has(cached.session.tokenId)) this.used.set(cached.session.tokenId, undefined)
    if (this.byToken.size <= this.capacity) return
    const [oldest, { session }] = this.byToken.entries().next().value!
    this.byToken.delete(oldest)
    this.tokens.delete(session.tokenId)
  }

  remove(tokenIds: Iterable<number>): void {
    this.revocations++
    for (const tokenId of tokenIds) {
      const token = this.tokens.get(tokenId)
      if (token !== undefined) this.byToken.delete(token)
      this.tokens.delete(tokenId)
      this.used.delete(tokenId)
    }
  }

  clear(): void {
    this.revocations++
    this.byToken.clear()
    this.tokens.clear()
  }

  /** The IDs of the tokens that were used since the last call, with the addresses from which they were, if known. */
  takeUsed(): ReadonlyArray<readonly [tokenId: number, address: string | undefined]> {
    const used = [...this.used]
    this.used.clear()
    return used
  }
}
