/** Gives each user a push rule of their own. */
import { serveLoad } from "../LoadProcess.ts"
import { jsonOf, onConnections, todayPrefix } from "./People.ts"

export interface PushRulesInput {
  readonly url: string
  readonly tokens: ReadonlyArray<string>
}

/** Returns how many users have a rule. */
serveLoad(async ({ tokens, url }: PushRulesInput): Promise<number> => {
  const body = JSON.stringify({ pattern: "what people", actions: ["notify", { set_tweak: "highlight" }] })
  await onConnections(url, 8, tokens.length, (connection, index) =>
    jsonOf(connection.request("PUT", `${todayPrefix}/pushrules/global/content/words`, tokens[index]!, body))
  )
  return tokens.length
})
