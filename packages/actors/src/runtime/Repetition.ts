/**
 * Annotations of a message for the case that another node has not answered it: whether a runner may repeat it, and the
 * longest wait for the answer. It is not known whether such a message was handled.
 *
 *     Rpc.make("Propose", ...).annotate(MayRepeat, ({ transaction }) => transaction !== undefined)
 */
import { Context, type Duration } from "effect"

/** Whether a message with this payload may be handled twice. By default all may. */
export const MayRepeat = Context.Reference<(payload: never) => boolean>("greenroom/actors/MayRepeat", {
  defaultValue: () => () => true
})

/** How long another node may take to answer (default 30 seconds). */
export const AnswerWithin = Context.Reference<Duration.Input>("greenroom/actors/AnswerWithin", {
  defaultValue: () => "30 seconds"
})
