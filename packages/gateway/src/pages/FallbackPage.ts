/**
 * The page that performs an entire login or registration for a client that cannot: every flow, with every type of stage.
 *
 * The result, as the API ends with it, goes to `onLogin` and `matrixLogin.onLogin` of this window, where an embedding
 * browser has set one; and to the page that opened this one: to the same functions of it, and as the message
 * `{type: "m.login", result}`. A registration has the type `m.registration`, and `matrixRegistration.onRegistered` too.
 * The message is for the origin of that page alone. Where this is another than ours, the user is shown its name before
 * anything is asked.
 *
 * Source: "Fallback" of "Registration and login" of the specification.
 */

import type { OAuth2Return } from "@greenroom/actors/account/login/LoginFlows"
import { loginDefaults } from "@greenroom/actors/account/login/LoginOptions"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { fallbackScript } from "./fallbackScript.ts"
import { mark, page } from "./Page.ts"

export interface FallbackPageOptions {
  readonly purpose: "login" | "registration"
  readonly serverName: ServerName
  /** How many characters a new password has at least (default 1). */
  readonly minPasswordLength?: number | undefined
  /** How the user came back from an OAuth2 provider. */
  readonly result?: OAuth2Return["result"] | undefined
}

const toData = (result: OAuth2Return["result"]) =>
  "answer" in result ? { answer: result.answer } : { error: result.error.error }

export const fallbackPage = ({
  minPasswordLength = loginDefaults.minPasswordLength,
  purpose,
  result,
  serverName
}: FallbackPageOptions): HttpServerResponse.HttpServerResponse => {
  const title = purpose === "login" ? "Log in" : "Create an account"
  return page({
    title: `${title} - ${serverName}`,
    content: `${mark}
<p class="step" hidden></p>
<h1 tabindex="-1">${title}</h1>
<div id="view"><p class="soft">${escapeHtml(serverName)}</p></div>
<div class="error" role="alert" id="alert"></div>
<div role="status" class="quiet"></div>
<noscript><p class="error">This page needs JavaScript.</p></noscript>`,
    script: fallbackScript,
    data: {
      purpose,
      serverName,
      minPasswordLength,
      api: clientPrefix,
      ...(result === undefined ? {} : { result: toData(result) })
    }
  })
}
