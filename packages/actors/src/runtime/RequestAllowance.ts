/**
 * The allowance of one request for reads of the store. Every request runs `withAllowance`,
 * and says by `ownAllowance` who makes it.
 */
import { Context } from "effect"

export { ownAllowance, withAllowance } from "@greenroom/store/LargeReads"

/**
 * A message whose handler reads within the allowance of the request that sent it, where both are in one process. Other
 * messages are handled in the context of the actor, which has no limit.
 */
export const WithinAllowance = Context.Reference<boolean>("greenroom/actors/WithinAllowance", {
  defaultValue: () => false
})
