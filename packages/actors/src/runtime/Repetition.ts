/**
 * Annotations of a message for the case that another node has not answered it: whether a runner may repeat it, and the
 * longest wait for the answer. It is not known whether such a message was handled. How long it may wait to be handled is the same
 * for all.
 *
 *     Rpc.make("Propose", ...).annotate(MayRepeat, ({ transaction }) => transaction !== undefined)
 */
import { Context, type Duration } from "effect"

/** Whether a message with this payload may be handled twice. By default all may. */
export const MayRepeat = Context.Reference<(payload: never) => boolean>("greenroom/actors/MayRepeat", {
  defaultValue: () => () => true
})

/**
 * How long a message for another node may wait until it is handled, in ms: until its node is found, and has started the actor. A
 * message that waits longer is not handled, by no node, so that what a client was refused is not done later. Longer than it takes to
 * move the actors of a lost node.
 */
export const handledWithin = 9_000

/** How long another node may take to answer, in ms, unless `AnswerWithin` says more: where its actor asks other servers. */
export const usualAnswer = 30_000

/** How long another node may take to answer (default `usualAnswer`). */
export const AnswerWithin = Context.Reference<Duration.Input>("greenroom/actors/AnswerWithin", {
  defaultValue: () => usualAnswer
})
