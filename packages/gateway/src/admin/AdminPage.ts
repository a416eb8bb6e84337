/**
 * The page of administrators at `/_greenroom/admin`: users, rooms, reports, other servers and the audit log. It calls the
 * documented endpoints for administrators, with the access token of the logged-in administrator.
 */
import { Effect } from "effect"
import { HttpRouter } from "effect/http"
import { mark, page } from "../pages/Page.ts"
import { adminScript } from "./adminScript.ts"
import { adminStyle } from "./adminStyle.ts"

export const adminPagePath = "/_greenroom/admin"

const content = `<div id="login-view">
${mark}
<h1>Administration</h1>
<p class="soft">For administrators of this server.</p>
<form id="login">
<label for="user">User name</label>
<input id="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus>
<label for="password">Password</label>
<input id="password" type="password" autocomplete="current-password" required>
<button>Log in</button>
</form>
</div>
<div id="app" hidden>
<header><strong>Greenroom</strong><span><span id="who" class="soft small"></span> <button id="logout" type="button" class="plain">Log out</button></span></header>
<nav id="tabs" aria-label="Sections"></nav>
<h1 id="heading" tabindex="-1">Users</h1>
<p id="status" class="note" role="status"></p>
<div id="view"></div>
</div>
<p class="error" id="error" role="alert"></p>
<dialog id="dialog" aria-labelledby="dialog-title" aria-describedby="dialog-text">
<h1 id="dialog-title"></h1>
<p id="dialog-subject" class="soft small"></p>
<p id="dialog-text"></p>
<form method="dialog">
<div id="reason-field"><label for="reason">Reason</label><input id="reason" minlength="3" maxlength="1000"></div>
<button value="yes">Yes</button>
<button value="" class="plain" formnovalidate>Cancel</button>
</form>
</dialog>`

const response = page({ title: "Administration", content, script: adminScript, extraStyle: adminStyle })

export const adminPage = HttpRouter.use((router) => router.add("GET", adminPagePath, Effect.succeed(response)))
