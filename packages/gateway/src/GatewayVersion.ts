/**
 * The version of Greenroom, as `/health` shows it.
 */
import { Context } from "effect"

export const GatewayVersion = Context.Reference<string>("greenroom/gateway/GatewayVersion", {
  defaultValue: () => "0.1.0"
})
