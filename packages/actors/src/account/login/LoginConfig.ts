/**
 * The settings of logins and registrations. Without any, the password alone is asked for.
 */
import { Context } from "effect"
import type { LoginOptions } from "./LoginOptions.ts"

export const LoginConfig = Context.Reference<LoginOptions>("greenroom/actors/account/LoginConfig", {
  defaultValue: () => ({})
})
