/**
 * `m.login.password`: the flow that needs nothing but a name and a password.
 *
 * Source: "Password-based login" of the specification.
 */
import type { LoginFlows } from "@greenroom/protocol/api/LoginFlow"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

export const passwordType = "m.login.password"

/** The flows, and beside them the type of the first one, as the first clients read it. */
export const passwordFlows: LoginFlows = { flows: [{ type: passwordType }], type: passwordType }

/** Errors: M_UNKNOWN for a type that is not among the flows. */
export const requirePasswordStage = (type: string): Effect.Effect<void, BadRequest> =>
  type === passwordType
    ? Effect.void
    : Effect.fail(new BadRequest({ error: `type: ${JSON.stringify(type)} is not among the flows of this server` }))
