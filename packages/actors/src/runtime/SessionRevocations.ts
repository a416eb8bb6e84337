/**
 * The end of sessions, on every node and for every cause: logout, revocation, another login on the same device, expiry,
 * deactivation, the command line. Nodes receive it through the event log, within milliseconds. The nodes of a cluster agree
 * beside it on the ended sessions (`SessionAgreement`).
 *
 * Code that keeps something open for a session (a socket, a long poll, typing) registers with `onEnd`.
 *
 *     const forget = revocations.onEnd(session, () => socket.close(closeCodes.unknownToken))
 */
import { UnknownToken } from "@greenroom/protocol/MatrixError"
import { setNewest } from "@greenroom/store/BoundedMap"
import { EventLog } from "@greenroom/store/EventLog"
import { type LogRow, rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { type SessionRevocation, sessionRevocations } from "@greenroom/store/SessionRevocation"
import { Clock, Context, Effect, Layer, type Scope } from "effect"
import { makeDeadlines } from "./Deadlines.ts"
import { HomeServerConfig } from "./HomeServerConfig.ts"
import type { Session } from "./Session.ts"
import { makeAgreement } from "./SessionAgreement.ts"

/**
 * How many ended sessions are remembered, for listeners that register after the end: a session is authenticated first, and
 * registers a little later.
 */
const maxRemembered = 20_000

/** The longest wait until this node has followed the log, which an older transaction may hold up. */
const followTimeout = "2 seconds"

/** A session that has ended, and when: the `since` of a later login on the device is greater. */
export interface EndedSession extends SessionRevocation {
  readonly since: number
}

/** The failure of what is asked for by an ended session: M_UNKNOWN_TOKEN. */
export const sessionEnded = Effect.fail(new UnknownToken({ error: "The session has ended" }))

/** The fields that identify an ended session. */
type End = Pick<EndedSession, "tokenId" | "since">

const toEnded = ({ position, row }: LogRow<SessionRevocation>): EndedSession => ({ ...row, since: position.xid })

const registered = <A>(all: Set<A>, entry: A): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => all.add(entry)),
      () => Effect.sync(() => all.delete(entry))
    )
  )

const make = Effect.gen(function* () {
  const { appServices = [] } = yield* HomeServerConfig
  const log = yield* EventLog
  const clock = yield* Clock.Clock
  const addDeadline = yield* makeDeadlines
  const listeners = new Map<number, Map<() => void, Session>>()
  const observers = new Set<(ended: ReadonlyArray<EndedSession>) => void>()
  const caches = new Set<(tokenIds: ReadonlyArray<number> | undefined) => void>()
  /** Keys: token IDs. Oldest first. */
  const remembered = new Map<number, End>()

  const hasEnded = ({ since = 0, tokenId }: Session) => {
    const ended = remembered.get(tokenId)
    return ended !== undefined && since < ended.since
  }

  const isOver = (session: Session) =>
    hasEnded(session) || (session.expiresAt !== undefined && session.expiresAt <= clock.currentTimeMillisUnsafe())

  const remember = (ended: End) => setNewest(remembered, ended.tokenId, ended, maxRemembered)

  const end = ({ tokenId }: End) => {
    for (const [listener, session] of [...(listeners.get(tokenId) ?? [])]) if (hasEnded(session)) listener()
  }

  const forget = (tokenIds?: ReadonlyArray<number>) => {
    for (const cache of caches) cache(tokenIds)
  }

  const agreement = yield* makeAgreement({
    ended: (tokenId, since) => {
      remember({ tokenId, since })
      forget([tokenId])
      end({ tokenId, since })
    },
    changed: (tokenId) => forget([tokenId]),
    missed: () => forget(),
    followed: log.reached
  })

  yield* log.follow((slice) => {
    const rows = rowsOf(slice.rows, sessionRevocations)
    if (rows.length === 0) return Effect.void
    return Effect.sync(() => {
      const ended = rows.map(toEnded)
      for (const session of ended) remember(session)
      // Caches first: a woken listener may authenticate again.
      forget(ended.map(({ tokenId }) => tokenId))
      for (const observe of observers) observe(ended)
      for (const session of ended) end(session)
    })
  })

  const followedEverywhere = Effect.flatMap(log.nextTransaction, (xid) =>
    Effect.all([Effect.timeoutOption(log.reached(xid), followTimeout), agreement.reached(xid)], {
      concurrency: "unbounded",
      discard: true
    })
  )

  const onEnd = (session: Session, listener: () => void) => {
    if (isOver(session)) {
      listener()
      return () => {}
    }
    const { expiresAt, tokenId } = session
    const ofToken = listeners.get(tokenId) ?? new Map<() => void, Session>()
    listeners.set(tokenId, ofToken.set(listener, session))
    const forgetDeadline =
      expiresAt === undefined
        ? undefined
        : addDeadline(monotonicMillisUnsafe(clock) + expiresAt - clock.currentTimeMillisUnsafe(), listener)
    return () => {
      forgetDeadline?.()
      if (ofToken.delete(listener) && ofToken.size === 0) listeners.delete(tokenId)
    }
  }

  return SessionRevocations.of({
    isOver,
    hasEnded,
    check: (session) => (hasEnded(session) ? sessionEnded : Effect.void),
    onEnd,
    isTrusted: agreement.isTrusted,
    // Sessions of application services end with the device, and this node, too, learns their token IDs by the log.
    everywhere: appServices.length > 0 ? followedEverywhere : agreement.reached(),
    followedEverywhere,
    observe: (observer) => registered(observers, observer),
    cache: (forget) => registered(caches, forget)
  })
})

/** Announces ended sessions on every node, to whatever is open for them. */
export class SessionRevocations extends Context.Service<
  SessionRevocations,
  {
    /** Whether the session has ended or expired, as far as this node has heard. */
    readonly isOver: (session: Session) => boolean
    /** `isOver`, except for sessions that have only expired. */
    readonly hasEnded: (session: Session) => boolean
    /** Errors: M_UNKNOWN_TOKEN if the session has ended, but not if it has only expired. */
    readonly check: (session: Session) => Effect.Effect<void, UnknownToken>
    /**
     * Calls `listener` once the session has ended, at once if it has already. The result takes it back. Costs some hundred
     * bytes: for each connection, not for each request.
     */
    readonly onEnd: (session: Session, listener: () => void) => () => void
    /** Whether this node may trust its memory of sessions. If not, the database must be asked. */
    readonly isTrusted: () => boolean
    /**
     * Waits until every node, this one included, refuses the sessions that have ended by now: for some milliseconds, or for two seconds
     * where a node does not answer.
     */
    readonly everywhere: Effect.Effect<void>
    /** As `everywhere`, for changes that nodes read from the log: waits until all, this one included, have read it to its present end. */
    readonly followedEverywhere: Effect.Effect<void>
    /** Calls `forget` with token IDs whose sessions must be looked up again; without any, with all. Until the scope closes. */
    readonly cache: (
      forget: (tokenIds: ReadonlyArray<number> | undefined) => void
    ) => Effect.Effect<void, never, Scope.Scope>
    /** Calls `observer` with every session that ends, but not for those that expire, until the scope closes. */
    readonly observe: (
      observer: (ended: ReadonlyArray<EndedSession>) => void
    ) => Effect.Effect<void, never, Scope.Scope>
  }
>()("greenroom/actors/SessionRevocations") {
  static readonly layer = Layer.effect(SessionRevocations, make)
}
