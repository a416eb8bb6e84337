/**
 * The page of a link in a mail that validates an address for today's client API. For a new password its button must be clicked,
 * because mail servers and browsers open links that no person clicked. Other links confirm the address when they are opened, as
 * clients and tests of Synapse expect.
 */

import type { AddressLink } from "@greenroom/actors/account/AddressValidations"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { confirmedPage } from "./EmailLinkPage.ts"
import { mark, page } from "./Page.ts"

export const addressLinkPage = (
  { email }: AddressLink,
  action: string,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Is this address yours? - ${serverName}`,
    content: `${mark}
<h1>Is this address yours?</h1>
<p>At ${escapeHtml(serverName)} somebody says that ${escapeHtml(email)} is their address. If it was you, confirm it; if not, close this page.</p>
<form method="post" action="${escapeHtml(action)}">
<button>Yes, it is me</button>
</form>`
  })

/** Has a link, not a redirect, because the requester of the mail chose its target. */
export const addressConfirmedPage = ({ nextLink }: AddressLink): HttpServerResponse.HttpServerResponse =>
  nextLink === undefined
    ? confirmedPage
    : page({
        title: "Confirmed",
        content: `${mark}
<h1>Confirmed</h1>
<p>You can close this page and go back to where you began, or go on to ${escapeHtml(new URL(nextLink).host)}.</p>
<p><a class="button" href="${escapeHtml(nextLink)}" rel="noreferrer">Go on</a></p>`
      })
