/**
 * The page of a link in a mail: the subject to confirm, and a button. Opening the link confirms nothing, because mail
 * servers and browsers open links that no person clicked.
 *
 * Source: "Email-based (url)" of "Registration and login" of the draft.
 */

import type { EmailLink } from "@greenroom/actors/account/login/LoginFlows"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { mark, messagePage, page } from "./Page.ts"

const questions = {
  login: "Log in?",
  registration: "Create an account?",
  link: "Add this address?"
} as const

const actions = {
  login: "someone wants to log in to your account",
  registration: "someone wants to create an account",
  link: "someone wants to add your address to an account"
} as const

export const emailLinkPage = (
  link: EmailLink,
  token: string,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `${questions[link.purpose]} - ${serverName}`,
    content: `${mark}
<h1>${questions[link.purpose]}</h1>
<p>At ${escapeHtml(serverName)} ${actions[link.purpose]}. If it is you, confirm it; if not, close this page.</p>
<dl>
<dt>Address</dt><dd>${escapeHtml(link.email)}</dd>
<dt>Asked from</dt><dd>${escapeHtml(link.address)}</dd>
</dl>
<form method="post" action="?token=${escapeHtml(encodeURIComponent(token))}">
<button>Yes, it is me</button>
</form>`
  })

export const confirmedPage: HttpServerResponse.HttpServerResponse = messagePage({
  title: "Confirmed",
  text: "You can close this page and go back to where you asked for the mail."
})

export const expiredPage: HttpServerResponse.HttpServerResponse = messagePage({
  title: "This link is no longer valid",
  text: "It was used already, or has expired. Start again where you asked for the mail.",
  status: 404
})
