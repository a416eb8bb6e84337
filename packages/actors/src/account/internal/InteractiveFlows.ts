/**
 * The flows of user-interactive authentication for the operations of this server.
 *
 * Source: "User-Interactive Authentication API" of the client-server specification.
 */
import { Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Option } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import type { Session } from "../../runtime/Session.ts"
import { AddressValidations } from "../AddressValidations.ts"
import type { InteractiveFlow } from "../InteractiveRequest.ts"
import { LoginConfig } from "../login/LoginConfig.ts"
import { loginFlowsOf, policiesOf, registrationFlowsOf, type StageType } from "../login/LoginOptions.ts"

export const termsStage = "m.login.terms"
export const approvalStage = "m.oauth"
const approvalFlows: ReadonlyArray<InteractiveFlow> = [[approvalStage], ["org.matrix.cross_signing_reset"]]

const onAccountPage = new Forbidden({
  error: "Your client logged in by OAuth 2.0: do this on the page of your account"
})

export const makeInteractiveFlows = Effect.gen(function* () {
  const { enableRegistration = true } = yield* HomeServerConfig
  const login = yield* LoginConfig
  const accountStore = yield* AccountStore
  const identities = yield* UserIdentityStore
  const validations = yield* AddressValidations
  const policies = policiesOf(login.terms ?? [])
  const hasTerms = Object.keys(policies).length > 0

  const registrationStages: { readonly [type in StageType]?: string } = {
    "m.login.registration_token": "m.login.registration_token",
    "m.login.email.code": "m.login.email.identity",
    "m.login.email.url": "m.login.email.identity"
  }

  const addressStages = validations.media.map((medium) =>
    medium === "email" ? "m.login.email.identity" : "m.login.msisdn"
  )

  /** Registration without stages: users may still prove an address. */
  const withAddress: ReadonlyArray<InteractiveFlow> = [["m.login.dummy"], ...addressStages.map((type) => [type])]

  /** The operator's registration flows in the terms of today: the password is part of the request, not a stage. */
  const registrationFlows: ReadonlyArray<InteractiveFlow> = enableRegistration
    ? registrationFlowsOf(login)
        .filter((flow) => !flow.includes("m.login.oauth2"))
        .map((flow) => flow.flatMap((type) => registrationStages[type] ?? []))
        .flatMap((flow) => (flow.length === 0 ? withAddress : [flow]))
        .map((flow) => (hasTerms ? [...flow, termsStage] : flow))
    : []

  const resetFlows: ReadonlyArray<InteractiveFlow> = addressStages.map((type) => [type])

  const bySso = loginFlowsOf(login).some((flow) => flow.length === 1 && flow[0] === "m.login.oauth2")

  const flowsOf = Effect.fnUntraced(function* ({
    clientId,
    userId
  }: Session): Effect.fn.Return<ReadonlyArray<InteractiveFlow>, MatrixError> {
    if (clientId !== undefined) return yield* onAccountPage
    const account = yield* accountStore.find(userId)
    const hasPassword = Option.isSome(account) && account.value.passwordHash !== undefined
    const linked = bySso && (yield* identities.subjectsOf(userId)).length > 0
    const flows = [...(hasPassword ? [["m.login.password"]] : []), ...(linked ? [["m.login.sso"]] : [])]
    return flows.length === 0 ? [["m.login.dummy"]] : flows
  })

  const keysResetFlowsOf = (session: Session) =>
    session.clientId === undefined ? flowsOf(session) : Effect.succeed(approvalFlows)

  return { policies, registrationFlows, resetFlows, flowsOf, keysResetFlowsOf }
})
