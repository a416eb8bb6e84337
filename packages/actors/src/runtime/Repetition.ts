/**
 * What a runner may do with a message that another node has not answered, and for how long it waits for the answer. Of such
 * a message it is not known whether it was handled.
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
