/**
 * Login and registration stage by stage, as calls of `LoginFlows`: the list of flows, one stage of a flow, and the page that
 * performs whole flows.
 *
 * Source: "Registration and login" of the draft.
 */

import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { type FlowRequest, LoginFlows } from "@greenroom/actors/account/login/LoginFlows"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import type { LoginStage } from "@greenroom/protocol/api/LoginFlow"
import { Effect } from "effect"
import { fallbackPage } from "../pages/FallbackPage.ts"
import { withBrowserSecret } from "./BrowserSecret.ts"

/** The stage without the keys that are null. */
export const withoutNulls = (stage: LoginStage): FlowRequest["body"] =>
  Object.fromEntries(Object.entries(stage).filter(([, value]) => value !== null))

export const makeStages = Effect.fnUntraced(function* (purpose: "login" | "registration") {
  const { serverName } = yield* HomeServerConfig
  const { minPasswordLength } = yield* LoginConfig
  const flows = yield* LoginFlows
  const publicUrl = yield* PublicUrl
  const page = fallbackPage({ purpose, serverName, minPasswordLength })
  return {
    flows: flows.flows(purpose),
    /** A stage, from a network address. */
    post: (stage: LoginStage, address: string) =>
      Effect.suspend(() => {
        const url = publicUrl.get()
        const answer = flows.post({ purpose, body: withoutNulls(stage), address, publicUrl: url })
        return Effect.map(answer, (given) => withBrowserSecret(given, url))
      }),
    page: Effect.succeed(page)
  }
})
