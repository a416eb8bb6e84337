/**
 * The version of Greenroom that `/health` tells.
 */
import { Context } from "effect"

export const GatewayVersion = Context.Reference<string>("greenroom/gateway/GatewayVersion", {
  defaultValue: () => "0.1.0"
})
