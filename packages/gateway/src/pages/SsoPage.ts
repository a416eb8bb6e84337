/**
 * The pages of single sign-on, and those on which a stage of user-interactive authentication is passed.
 *
 * Source: "SSO client login/authentication" and "Fallback" of the client-server specification.
 */

import type { Policy } from "@greenroom/actors/account/login/LoginOptions"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { paths } from "../oauth/OAuthForms.ts"
import { errorParagraph, mark, page } from "./Page.ts"

export const providersPage = (
  providers: ReadonlyArray<{ readonly id: string; readonly name: string }>,
  redirectUrl: string,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse => {
  const query = new URLSearchParams({ redirectUrl })
  const choices = providers.map(({ id, name }) => {
    const href = `/_matrix/client/v3/login/sso/redirect/${encodeURIComponent(id)}?${query}`
    return `<li><a class="button plain" href="${escapeHtml(href)}">${escapeHtml(name)}</a></li>`
  })
  return page({
    title: `Log in with - ${serverName}`,
    content: `${mark}
<h1>Log in with</h1>
<p class="soft">at ${escapeHtml(serverName)}</p>
<ul class="choices">
${choices.join("\n")}
</ul>`
  })
}

/** Has a link, not a redirect, because the operator does not know the target. */
export const goOnPage = (
  location: string,
  userId: UserId,
  serverName: ServerName
): HttpServerResponse.HttpServerResponse => {
  const { host, protocol } = new URL(location)
  return page({
    title: `Go on? - ${serverName}`,
    content: `${mark}
<h1>Go on to ${escapeHtml(host === "" ? protocol : `${protocol}//${host}`)}?</h1>
<p>It gets full access to your account ${escapeHtml(userId)}. Go on only if it was there that you wanted to log in.</p>
<a class="button" href="${escapeHtml(location)}" rel="noreferrer">Go on</a>`
  })
}

export const chooseNamePage = (
  id: string,
  serverName: ServerName,
  more: { readonly error?: string; readonly user?: string } = {}
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Choose a name - ${serverName}`,
    content: `${mark}
<h1>Choose a name</h1>
<p>You have no account at ${escapeHtml(serverName)} yet. Its name cannot be changed later.</p>
${errorParagraph(more.error)}
<form method="post" action="/_greenroom/sso/register?id=${escapeHtml(encodeURIComponent(id))}">
<label for="user">User name</label>
<input id="user" name="user" required autocapitalize="none" autocomplete="username" maxlength="255" value="${escapeHtml(more.user ?? "")}">
<button>Create account</button>
</form>`
  })

const doneScript = `
if (window.onAuthDone) window.onAuthDone()
else if (window.opener && window.opener.postMessage) window.opener.postMessage("authDone", "*")
`

/** Notifies the client that the stage is complete. */
export const stagePassedPage: HttpServerResponse.HttpServerResponse = page({
  title: "Done",
  content: `${mark}\n<h1>Done</h1>\n<p>You can close this page and go back to your client.</p>`,
  script: doneScript
})

export interface StagePageOptions {
  readonly serverName: ServerName
  readonly stage: string
  readonly error?: string | undefined
}

/** The user approves a reset of the cross-signing keys on the page of the account, and then returns. */
const approval = `<p>First <a href="${paths.account}?action=org.matrix.cross_signing_reset" target="_blank" rel="noopener">approve the
reset on the page of your account</a>. Then go on here.</p>`

const fields: { readonly [stage: string]: string } = {
  "m.oauth": approval,
  "org.matrix.cross_signing_reset": approval,
  "m.login.dummy": "<p>Your client asks you to continue.</p>",
  "m.login.password": `<label for="password">Your password</label>
<input id="password" name="password" type="password" required autocomplete="current-password">`,
  "m.login.registration_token": `<label for="token">Registration token</label>
<input id="token" name="token" required autocomplete="off">`
}

/** Whether there is a page for a stage. */
export const hasStagePage = (stage: string): boolean => Object.hasOwn(fields, stage)

/** The names of the policies with links to them, in English if available. */
const policyLinks = (policies: ReadonlyArray<Policy>): string => {
  const shown = [...Map.groupBy(policies, ({ id }) => id).values()].map(
    (texts) => texts.find(({ language }) => language === "en") ?? texts[0]!
  )
  const links = shown.map(
    ({ name, url }) => `<li><a href="${escapeHtml(url)}" target="_blank" rel="noopener">${escapeHtml(name)}</a></li>`
  )
  return `<p>To register, read these and agree to them:</p><ul>${links.join("")}</ul>`
}

/** The page on which a user who registers accepts the policies of the server. */
export const termsPage = (
  serverName: ServerName,
  policies: ReadonlyArray<Policy>
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Terms - ${serverName}`,
    content: `${mark}
<h1>Terms of ${escapeHtml(serverName)}</h1>
<form method="post">
${policyLinks(policies)}
<button>I agree</button>
</form>`
  })

export const stagePage = ({ serverName, stage, ...more }: StagePageOptions): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Confirm - ${serverName}`,
    content: `${mark}
<h1>Confirm that it is you</h1>
<p class="soft">${escapeHtml(serverName)}</p>
${errorParagraph(more.error)}
<form method="post">
${fields[stage] ?? ""}
<button>Go on</button>
</form>`
  })
