/**
 * The version of Greenroom, as `/health` shows it.
 */
import { Context } from "effect"

/** The version of Greenroom. Default: the version of this package. */
export const GatewayVersion = Context.Reference<string>("greenroom/gateway/GatewayVersion", {
  defaultValue: () => "0.1.0"
})
