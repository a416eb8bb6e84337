/**
 * The flows of the operator, and the next stage after the completed ones. Flows may have a common beginning: the completed stages
 * determine which flows are still possible.
 *
 * Source: "Registration and login" and "N-Factor Authentication" of the draft.
 */
import type { LoginFlow, LoginFlows } from "@greenroom/protocol/api/LoginFlow"
import { BadRequest, Forbidden, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import {
  type Flow,
  type LoginOptions,
  linkFlowsOf,
  loginFlowsOf,
  registrationFlowsOf,
  type StageType
} from "./LoginOptions.ts"
import type { Purpose } from "./LoginProgress.ts"

type Passed = ReadonlyArray<StageType>

const beginsWith = (flow: Flow, passed: Passed): boolean => passed.every((type, index) => flow[index] === type)

const toLoginFlow = (flow: Flow): LoginFlow =>
  flow.length === 1 ? { type: flow[0] ?? "" } : { type: flow[0] ?? "", stages: flow }

/** The flows of logins or of registrations, and what can follow passed stages. */
export class FlowTable {
  private readonly flows: { readonly [purpose in Purpose]: ReadonlyArray<Flow> }

  constructor(options: LoginOptions) {
    this.flows = {
      login: loginFlowsOf(options),
      registration: registrationFlowsOf(options),
      link: linkFlowsOf(options)
    }
  }

  /** Whether there is no flow at all: registration is closed, or there is nothing to link. */
  isClosed(purpose: Purpose): boolean {
    return this.flows[purpose].length === 0
  }

  /** The flows in the form of the API: all flows, and beside them the fields of the first one. */
  answer(purpose: Purpose): LoginFlows {
    const all = this.flows[purpose].map(toLoginFlow)
    return { flows: all, ...all[0] }
  }

  /** The next stage of the first flow that is still possible. */
  next(purpose: Purpose, passed: Passed): StageType | undefined {
    return this.open(purpose, passed)[0]?.[passed.length]
  }

  /** Whether all stages of a flow are complete. */
  isComplete(purpose: Purpose, passed: Passed): boolean {
    return this.flows[purpose].some((flow) => flow.length === passed.length && beginsWith(flow, passed))
  }

  /** Checks that a stage may come next. Errors: M_FORBIDDEN if it may not, M_UNKNOWN if it is in no flow. */
  check(purpose: Purpose, passed: Passed, type: string): Effect.Effect<StageType, MatrixError> {
    if (this.open(purpose, passed).some((flow) => flow[passed.length] === type))
      return Effect.succeed(type as StageType)
    if (!this.flows[purpose].some((flow) => flow.includes(type as StageType))) {
      return Effect.fail(
        new BadRequest({ error: `type: ${JSON.stringify(type)} is not among the flows of this server` })
      )
    }
    const next = this.next(purpose, passed)
    const expected = next === undefined ? "" : `, the next stage is ${next}`
    return Effect.fail(new Forbidden({ error: `type: ${type} is not the next stage${expected}` }))
  }

  /** The flows that continue after the completed stages. */
  private open(purpose: Purpose, passed: Passed): ReadonlyArray<Flow> {
    return this.flows[purpose].filter((flow) => flow.length > passed.length && beginsWith(flow, passed))
  }
}
