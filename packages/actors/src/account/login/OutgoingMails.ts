/**
 * Sends the mails that `Mailer.send` has stored, on one node of the cluster at a time. What the mail server does not take is tried again
 * for a day. Where a node ends while the mail server takes a mail, it may arrive twice, with the same Message-ID.
 */
import { redactAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { doublingWait } from "@greenroom/store/Backoff"
import { longestMailWait, type OutgoingMail, OutgoingMailStore } from "@greenroom/store/OutgoingMailStore"
import { Clock, Effect, Fiber, Layer } from "effect"
import { keepRunningOnce } from "../../runtime/Singletons.ts"
import { signalsOfWork } from "../../runtime/WorkSignals.ts"
import { LoginConfig } from "./LoginConfig.ts"
import { Mailer, type MailFailed } from "./Mailer.ts"

/** How many mails are read, and how many are sent, at once. */
const batchSize = 100
const senders = 4

/** The wait before the first repeat, in ms. It doubles with each one, up to `longestMailWait`. */
const firstWait = 1_000

/** How long a node that goes down, or gives this work to another one, waits for the mail server. Then the mail is sent again. */
const graceTime = "1 second"

const make = Effect.gen(function* () {
  const store = yield* OutgoingMailStore
  const { deliver } = yield* Mailer

  const failed = Effect.fnUntraced(function* (
    { mailId, recipient = "" }: OutgoingMail,
    attempts: number,
    { isRefusal, reason }: MailFailed
  ) {
    const to = redactAddress({ medium: "email", address: recipient })
    if (isRefusal) {
      yield* store.remove(mailId)
      return yield* Effect.logWarning(`The mail server refuses a mail to ${to}: ${reason}`)
    }
    if (attempts === 1) {
      yield* Effect.logWarning(`A mail to ${to} could not be sent, and is tried again for a day: ${reason}`)
    }
    yield* store.retryAfter(mailId, doublingWait(attempts, firstWait, longestMailWait))
  })

  /** Another node may have sent the mail since it was read, where this one was stopped. */
  const send = Effect.fnUntraced(function* (mail: OutgoingMail) {
    const { html, mailId, recipient, subject, text } = mail
    if (recipient === undefined) return yield* store.remove(mailId)
    const attempts = yield* store.attempt(mailId)
    if (attempts === undefined) return
    const sending = yield* deliver(recipient, { subject, text, html }, { mailId }).pipe(
      Effect.matchEffect({
        onSuccess: () => store.remove(mailId),
        onFailure: (failure) => failed(mail, attempts, failure)
      }),
      Effect.forkDetach
    )
    yield* Effect.onInterrupt(Fiber.join(sending), () =>
      Effect.andThen(Effect.timeoutOption(Fiber.await(sending), graceTime), Fiber.interrupt(sending))
    )
  })

  const storedMore = yield* signalsOfWork("mails")
  const sendDue = Effect.gen(function* () {
    const tooOld = yield* store.removeOld
    if (tooOld > 0) yield* Effect.logError(`The mail server did not take ${tooOld} mails for a day: they are dropped`)
    const due = yield* store.due(batchSize)
    yield* Effect.forEach(due, send, { concurrency: senders, discard: true })
    if (due.length === batchSize) return
    const next = yield* store.nextAt
    if (next === undefined) return yield* storedMore
    const wait = next - (yield* Clock.currentTimeMillis)
    yield* Effect.timeoutOption(storedMore, Math.min(longestMailWait, Math.max(firstWait, wait)))
  })
  yield* keepRunningOnce("Sending mails", sendDue)
})

export const layer = Layer.effectDiscard(
  Effect.flatMap(LoginConfig, ({ mail }) => (mail === undefined ? Effect.void : make))
).pipe(Layer.provide(Mailer.layer))
