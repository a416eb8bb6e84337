/**
 * The page that performs a whole login or registration for a client that cannot: every flow, with every type of stage.
 *
 * The page passes the last answer of the API to `onLogin` and `matrixLogin.onLogin` of its window, where an embedding browser has
 * set them. The page that opened it gets the same calls, and the message `{type: "m.login", result}`. A registration has the type
 * `m.registration`, and also calls `matrixRegistration.onRegistered`. The message goes only to the origin of the opening page.
 * Where that origin is not this server, the page shows its name before it asks for anything.
 *
 * Source: "Fallback" of "Registration and login" of the draft.
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
  /** The minimal length of a new password, in characters (default 1). */
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
