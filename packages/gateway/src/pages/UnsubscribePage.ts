/**
 * The page of a link in a mail about notifications: its button ends these mails. Opening the link does not, because mail
 * servers and browsers open links that no person clicked.
 */
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { mark, messagePage, page } from "./Page.ts"

export const unsubscribePage = (
  { email, userId }: { readonly email: string; readonly userId: string },
  action: string,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Stop these mails? - ${serverName}`,
    content: `${mark}
<h1>No more mails?</h1>
<p>${escapeHtml(userId)} gets mails about unread messages at ${escapeHtml(email)}. You can turn them on again in the settings of your client.</p>
<form method="post" action="${escapeHtml(action)}">
<button>End these mails</button>
</form>`
  })

export const unsubscribedPage: HttpServerResponse.HttpServerResponse = messagePage({
  title: "No more mails",
  text: "You will get no more mails about unread messages."
})

export const unknownSubscriptionPage: HttpServerResponse.HttpServerResponse = messagePage({
  title: "These mails have ended",
  text: "The link is unknown, or the mails were ended already.",
  status: 404
})
