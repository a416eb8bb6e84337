/**
 * The settings of logins and registrations. By default a password is enough.
 */
import * as Context from "effect/Context"
import type { LoginOptions } from "./LoginOptions.ts"

/** The settings of logins, for the services that read them. */
export const LoginConfig = Context.Reference<LoginOptions>("greenroom/actors/account/LoginConfig", {
  defaultValue: () => ({})
})
