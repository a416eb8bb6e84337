/**
 * The pages of the OAuth 2.0 API: login, registration, consent, the code of a device, the account. They are forms that work without
 * scripts.
 *
 * Source: "OAuth 2.0 API" of the client-server specification.
 */

import type { Device } from "@greenroom/actors/account/Credentials"
import type { Question, RefusedRequest } from "@greenroom/actors/account/oauth/OAuthRequests"
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { HttpServerResponse } from "effect/http"
import { errorParagraph, mark, page } from "./Page.ts"

/** A form that posts to the page itself. `action` says what its button does. */
const form = (action: string, content: string): string =>
  `<form method="post"><input type="hidden" name="action" value="${action}">${content}</form>`

const button = (text: string, kind?: "plain" | "link"): string =>
  `<button${kind === undefined ? "" : ` class="${kind}"`}>${escapeHtml(text)}</button>`

const field = (name: string, label: string, attributes: string): string =>
  `<label for="${name}">${label}</label><input id="${name}" name="${name}" required ${attributes}>`

const nameOf = ({ client }: Question): string => client.client_name ?? new URL(client.client_uri).host

/** The origin of a client's URL, or its scheme where it has none: the target of a form that redirects there. */
const originOf = ({ host, protocol }: URL): string => (host === "" ? protocol : `${protocol}//${host}`)

const formActionOf = ({ redirectUri }: Question): string | undefined =>
  redirectUri === undefined ? undefined : originOf(new URL(redirectUri))

const asked = (question: Question | undefined): string =>
  question === undefined ? "" : `<p class="soft">to continue to ${escapeHtml(nameOf(question))}</p>`

const formActions = (question: Question | undefined) => {
  const formAction = question && formActionOf(question)
  return formAction === undefined ? {} : { formAction }
}

const cancel = (question: Question | undefined): string =>
  question === undefined ? "" : form("refuse", button("Cancel", "plain"))

export interface LoginPageOptions {
  readonly serverName: ServerName
  readonly question?: Question | undefined
  readonly error?: string | undefined
  readonly user?: string | undefined
  /** The URL at which an account can be made, if it can. */
  readonly registerAt?: string | undefined
}

export const oauthLoginPage = (options: LoginPageOptions): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Log in - ${options.serverName}`,
    ...formActions(options.question),
    content: `${mark}
<h1>Log in to ${escapeHtml(options.serverName)}</h1>
${asked(options.question)}
${errorParagraph(options.error)}
${form(
  "login",
  field(
    "user",
    "User name",
    `autocomplete="username" autocapitalize="none" value="${escapeHtml(options.user ?? "")}"`
  ) +
    field("password", "Password", `type="password" autocomplete="current-password"`) +
    button("Log in")
)}
${options.registerAt === undefined ? "" : `<a class="button plain" href="${escapeHtml(options.registerAt)}">Create an account</a>`}
${cancel(options.question)}`
  })

export interface RegisterPageOptions extends LoginPageOptions {
  /** Whether it takes a registration token. */
  readonly byToken: boolean
  readonly minPasswordLength: number
  readonly loginAt: string
}

export const oauthRegisterPage = (options: RegisterPageOptions): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Create an account - ${options.serverName}`,
    ...formActions(options.question),
    content: `${mark}
<h1>Create an account</h1>
<p class="soft">at ${escapeHtml(options.serverName)}</p>
${asked(options.question)}
${errorParagraph(options.error)}
${form(
  "register",
  field(
    "user",
    "User name",
    `autocomplete="username" autocapitalize="none" value="${escapeHtml(options.user ?? "")}"`
  ) +
    field(
      "password",
      "Password",
      `type="password" autocomplete="new-password" minlength="${options.minPasswordLength}" maxlength="512"`
    ) +
    (options.byToken ? field("token", "Registration token", `autocomplete="off"`) : "") +
    button("Create account")
)}
<a class="button plain" href="${escapeHtml(options.loginAt)}">I have an account</a>
${cancel(options.question)}`
  })

/** An authorisation request of a client that cannot be granted. */
export const refusedRequestPage = ({ back, description }: RefusedRequest): HttpServerResponse.HttpServerResponse => {
  const { host, protocol } = new URL(back)
  return page({
    title: "This request cannot continue",
    status: 400,
    content: `${mark}
<h1>This request cannot continue</h1>
<p>The client asks for what this server does not give: ${escapeHtml(description)}</p>
<a class="button plain" href="${escapeHtml(back)}" rel="noreferrer">Go back to ${escapeHtml(host || protocol)}</a>`
  })
}

const link = (href: string | undefined, text: string): string =>
  href === undefined ? "" : `<a href="${escapeHtml(href)}" rel="noreferrer" target="_blank">${text}</a>`

export const consentPage = (question: Question, userId: UserId, serverName: ServerName) => {
  const { client, redirectUri } = question
  const target = redirectUri === undefined ? undefined : new URL(redirectUri)
  const returns = target === undefined ? "" : target.host || target.protocol
  const pages = [link(client.policy_uri, "Privacy policy"), link(client.tos_uri, "Terms of service")].filter(
    (text) => text !== ""
  )
  return page({
    title: `Allow access? - ${serverName}`,
    ...formActions(question),
    content: `${mark}
<h1>Let ${escapeHtml(nameOf(question))} use your account?</h1>
<p>It can read and send messages as you, and see and change everything in your account but the password.</p>
<dl>
<dt>Account</dt><dd>${escapeHtml(userId)}</dd>
<dt>From</dt><dd>${escapeHtml(new URL(client.client_uri).host)}</dd>
${returns === "" ? "" : `<dt>Continues at</dt><dd>${escapeHtml(returns)}</dd>`}
<dt>Device</dt><dd>${escapeHtml(question.deviceId)}</dd>
</dl>
${redirectUri === undefined ? `<p class="note">Continue only if the code that you entered is on a device in front of you.</p>` : ""}
${pages.length === 0 ? "" : `<p class="small links">${pages.join(" ")}</p>`}
${form("approve", button("Allow"))}
${form("refuse", button("Cancel", "plain"))}
${form("logout", button("Use another account", "link"))}`
  })
}

/** For a client that logs in by `m.login.sso`. The server knows nothing of it but its URL. */
export const ssoConsentPage = (client: URL, userId: UserId, serverName: ServerName) =>
  page({
    title: `Log in? - ${serverName}`,
    formAction: originOf(client),
    content: `${mark}
<h1>Log in at ${escapeHtml(originOf(client))}?</h1>
<p>It gets full access to your account ${escapeHtml(userId)}. Go on only if it was there that you wanted to log in.</p>
${form("approve", button("Go on"))}
${form("logout", button("Use another account", "link"))}`
  })

export const userCodePage = (serverName: ServerName, wrong?: string): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Link a device - ${serverName}`,
    content: `${mark}
<h1>Link a device</h1>
<p>Enter the code that your device shows.</p>
${errorParagraph(wrong)}
<form method="get">${field("user_code", "Code", `class="code" autocomplete="off" autocapitalize="characters" maxlength="16"`)}${button("Go on")}</form>`
  })

export interface AccountPageOptions {
  readonly serverName: ServerName
  readonly userId: UserId
  readonly devices: ReadonlyArray<Device>
  /** The device that the page was opened for. */
  readonly deviceId?: string | undefined
  readonly done?: string | undefined
  readonly error?: string | undefined
}

const deviceRow = ({ device_id, display_name, last_seen_ip, last_seen_ts }: Device): string => `<li>
<dl>
<dt>Device</dt><dd>${escapeHtml(display_name ?? device_id)}${display_name === undefined ? "" : ` <span class="soft">${escapeHtml(device_id)}</span>`}</dd>
<dt>Last used</dt><dd>${escapeHtml(new Date(last_seen_ts).toISOString().slice(0, 16).replace("T", " "))} UTC${last_seen_ip === undefined ? "" : ` from ${escapeHtml(last_seen_ip)}`}</dd>
</dl>
${form("end_device", `<input type="hidden" name="device_id" value="${escapeHtml(device_id)}">${button("Log this device out", "plain")}`)}
</li>`

export const accountPage = (options: AccountPageOptions): HttpServerResponse.HttpServerResponse => {
  const { deviceId, devices } = options
  const shown = deviceId === undefined ? devices : devices.filter(({ device_id }) => device_id === deviceId)
  return page({
    title: `Your account - ${options.serverName}`,
    content: `${mark}
<h1>${escapeHtml(options.userId)}</h1>
<p class="soft">Your account at ${escapeHtml(options.serverName)}</p>
${options.done === undefined ? "" : `<p class="note" role="status">${escapeHtml(options.done)}</p>`}
${errorParagraph(options.error)}
<ul class="choices">
${shown.map(deviceRow).join("\n")}
</ul>
${shown.length === 0 ? `<p>${deviceId === undefined ? "No device is logged in." : "This device is not logged in."}</p>` : ""}
<ul class="choices">
<li><a class="button plain" href="?action=org.matrix.devices_list">All devices</a></li>
<li><a class="button plain" href="?action=org.matrix.cross_signing_reset">Reset your identity</a></li>
<li><a class="button plain" href="?action=org.matrix.account_deactivate">Deactivate your account</a></li>
</ul>
${form("logout", button("Log out here", "link"))}`
  })
}

export const keysResetPage = (serverName: ServerName, userId: UserId): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Reset your identity? - ${serverName}`,
    content: `${mark}
<h1>Reset your identity?</h1>
<p>${escapeHtml(userId)} gets new keys. Everybody whom you have verified must verify you again, and messages that only your old keys can read are lost.</p>
<p>Go on only if you began it in your client. It can be done there within ten minutes.</p>
${form("allow_keys_reset", button("Allow the reset"))}
<a class="button plain" href="?">Cancel</a>`
  })

export const deactivatePage = (
  serverName: ServerName,
  userId: UserId,
  wrong?: string
): HttpServerResponse.HttpServerResponse =>
  page({
    title: `Deactivate your account? - ${serverName}`,
    content: `${mark}
<h1>Deactivate your account?</h1>
<p>${escapeHtml(userId)} is logged out everywhere and leaves all rooms. The name can never be used again. This cannot be undone.</p>
${errorParagraph(wrong)}
${form(
  "deactivate",
  field("password", "Your password", `type="password" autocomplete="current-password"`) + button("Deactivate")
)}
<a class="button plain" href="?">Cancel</a>`
  })
