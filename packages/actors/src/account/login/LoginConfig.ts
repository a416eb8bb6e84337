/**
 * The settings of logins and registrations. By default a password is enough.
 */
import { Context } from "effect"
import type { LoginOptions } from "./LoginOptions.ts"

export const LoginConfig = Context.Reference<LoginOptions>("greenroom/actors/account/LoginConfig", {
  defaultValue: () => ({})
})
