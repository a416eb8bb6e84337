/**
 * The page on which the user chooses the OAuth2 provider to authorise with.
 *
 * Source: "OAuth2-based" of "Registration and login" of the draft.
 */

import type { ServiceSelection } from "@greenroom/actors/account/login/LoginFlows"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { mark, page } from "./Page.ts"

const headings = {
  login: "Log in with",
  registration: "Register with",
  link: "Link your account at"
} as const

export const servicesPage = (
  { providers, purpose }: ServiceSelection,
  ticket: string,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse => {
  const choices = providers.map(({ id, name }) => {
    const href = `authorize?ticket=${encodeURIComponent(ticket)}&provider=${encodeURIComponent(id)}`
    return `<li><a class="button plain" href="${escapeHtml(href)}">${escapeHtml(name)}</a></li>`
  })
  return page({
    title: `${headings[purpose]} - ${serverName}`,
    content: `${mark}
<h1>${headings[purpose]}</h1>
<p class="soft">${escapeHtml(serverName)}</p>
<ul class="choices">
${choices.join("\n")}
</ul>`
  })
}
