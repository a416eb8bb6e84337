/**
 * Nodes of a cluster remember sessions, so that a request costs no query, and yet a token that was logged out is refused by all
 * of them once the logout was answered:
 *
 * - A node trusts its memory for `trustFor` after it sent a signal that it has heard itself: signals come in the order of
 *   commits, so it has heard of all logins that had ended by then. Otherwise it asks the database.
 * - A logout is answered when all nodes have said that they know, or after `trustFor`: a node that was stopped, or does not reach
 *   the database, then trusts its memory no more.
 *
 * Nothing is sent while no requests come. A server of one process needs none of this.
 *
 * Changes that nodes hear of by the log, such as bans and locked accounts, are agreed on with the same question: others then answer
 * when they have followed the log so far.
 */
import { monotonicMillisUnsafe } from "@greenroom/store/MonotonicClock"
import { type SessionSignal, SessionSignals } from "@greenroom/store/SessionSignals"
import { keepRunning } from "@greenroom/store/Supervision"
import { Cause, Clock, Deferred, Effect, Latch, Option, Queue, type Scope } from "effect"
import { addressOfNode, Nodes } from "./Nodes.ts"

/** In ms. */
const trustFor = 2_000

/** How the nodes agree that a session has ended. */
export interface SessionAgreement {
  /** Whether this node may believe what it remembers of sessions. */
  readonly isTrusted: () => boolean
  /**
   * Waits until no other node believes in sessions that have ended by now. With the number of a transaction: also until the others
   * have followed the log to its end.
   */
  readonly reached: (xid?: number) => Effect.Effect<void>
}

/** The reactions of a node to ended sessions. */
export interface SessionHearer {
  /** The login has ended at a position (`xid`) of the log. */
  readonly ended: (tokenId: number, since: number) => void
  /** The login has another access token. */
  readonly changed: (tokenId: number) => void
  /** Anything may have ended. */
  readonly missed: () => void
  /** Waits until this node has followed the log to the end of a transaction. */
  readonly followed: (xid: number) => Effect.Effect<void>
}

const alone: SessionAgreement = { isTrusted: () => true, reached: () => Effect.void }

/** A question to the other nodes. */
interface Question {
  readonly missing: Set<string>
  readonly answered: Deferred.Deferred<void>
}

export const makeAgreement: (
  hearer: SessionHearer
) => Effect.Effect<SessionAgreement, never, Nodes | SessionSignals | Scope.Scope> = Effect.fnUntraced(
  function* (hearer) {
    const nodes = yield* Nodes
    if (!nodes.isCluster) return alone
    const signals = yield* SessionSignals
    const clock = yield* Clock.Clock
    const here = addressOfNode(nodes.name)
    const wanted = Latch.makeUnsafe(false)
    const questions = new Map<number, Question>()
    const answers: Array<SessionSignal> = []
    const toAnswer = Latch.makeUnsafe(false)
    /** Answers for which this node has to follow the log first. */
    const following = yield* Queue.unbounded<{ readonly xid: number; readonly answer: SessionSignal }>()
    let numbers = 0
    let trustedUntil = Number.NEGATIVE_INFINITY
    let probe: { readonly number: number; readonly sentAt: number } | undefined

    const hearProbe = (number: number) => {
      if (probe?.number !== number) return
      trustedUntil = probe.sentAt + trustFor
      probe = undefined
    }

    const hearAnswer = (number: number, by: string) => {
      const question = questions.get(number)
      if (question?.missing.delete(by) && question.missing.size === 0) {
        Deferred.doneUnsafe(question.answered, Effect.void)
      }
    }

    const answerWith = (answer: SessionSignal) => {
      answers.push(answer)
      toAnswer.openUnsafe()
    }

    const hear = (signal: SessionSignal): void => {
      if (signal[0] === "ended") hearer.ended(signal[1], signal[2])
      else if (signal[0] === "changed") hearer.changed(signal[1])
      else if (signal[2] === nodes.name) {
        if (signal[0] === "probe") hearProbe(signal[1])
        if (signal[0] === "heard") hearAnswer(signal[1], signal[3])
      } else if (signal[0] === "ask") {
        const answer = ["heard", signal[1], signal[2], here] as const
        const xid = signal[3]
        if (xid === undefined) answerWith(answer)
        else Queue.offerUnsafe(following, { xid, answer })
      }
    }

    yield* signals.listen({
      hear,
      joined: () => {
        trustedUntil = Number.NEGATIVE_INFINITY
        probe = undefined
        hearer.missed()
      }
    })

    const sendProbe = Effect.gen(function* () {
      yield* wanted.await
      wanted.closeUnsafe()
      const sentAt = monotonicMillisUnsafe(clock)
      if (probe !== undefined && sentAt < probe.sentAt + trustFor) return
      const number = ++numbers
      probe = { number, sentAt }
      yield* signals.send(["probe", number, nodes.name])
    })
    yield* keepRunning("Finding out whether ends of sessions are heard of", sendProbe)

    const answer = Effect.gen(function* () {
      yield* toAnswer.await
      toAnswer.closeUnsafe()
      for (const signal of answers.splice(0)) yield* signals.send(signal)
    })
    yield* keepRunning("Answering that ends of sessions were heard of", answer)

    const follow = Effect.flatMap(Queue.take(following), ({ answer, xid }) =>
      Effect.map(Effect.timeoutOption(hearer.followed(xid), trustFor), (followed) => {
        if (Option.isSome(followed)) answerWith(answer)
      })
    )
    yield* keepRunning("Following the log before answering other nodes", follow)

    const ask = (number: number, question: Question, xid?: number) =>
      Effect.gen(function* () {
        for (const address of yield* nodes.addresses) if (address !== here) question.missing.add(address)
        if (question.missing.size === 0) return
        questions.set(number, question)
        yield* signals.send(xid === undefined ? ["ask", number, nodes.name] : ["ask", number, nodes.name, xid])
        yield* Deferred.await(question.answered)
      })

    return {
      isTrusted: () => {
        const left = trustedUntil - monotonicMillisUnsafe(clock)
        if (left < trustFor / 2) wanted.openUnsafe()
        return left > 0
      },
      reached: (xid) =>
        Effect.suspend(() => {
          const number = ++numbers
          const asked = Effect.catchCause(
            ask(number, { missing: new Set(), answered: Deferred.makeUnsafe() }, xid),
            (cause): Effect.Effect<void> => (Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.never)
          )
          return Effect.ensuring(
            Effect.asVoid(Effect.timeoutOption(asked, trustFor)),
            Effect.sync(() => questions.delete(number))
          )
        })
    }
  }
)
