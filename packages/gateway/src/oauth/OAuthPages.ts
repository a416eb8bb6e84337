/**
 * The pages of the OAuth 2.0 API.
 *
 * Source: "OAuth 2.0 API" of the client-server specification.
 */
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { HttpRouter } from "effect/http"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeAccountPages } from "./AccountPages.ts"
import { makeBrowserLogins } from "./BrowserLogins.ts"
import { makeConsentPages } from "./ConsentPages.ts"
import { paths } from "./OAuthForms.ts"
import { makePage } from "./OAuthPageAnswer.ts"
import { makeSsoPages } from "./SsoPages.ts"

export const oauthPages = HttpRouter.use((router) =>
  withServices(function* () {
    if ((yield* OAuthServer).mode === "off") return
    const page = yield* makePage
    const logins = yield* makeBrowserLogins
    const { ask, begin, decide, link } = yield* makeConsentPages(page, logins)
    const { changeAccount, showAccount } = yield* makeAccountPages(page, logins)
    const sso = yield* makeSsoPages(page, logins)

    yield* router.add("GET", paths.authorise, begin)
    yield* router.add("GET", paths.page, ask)
    yield* router.add("POST", paths.page, decide)
    yield* router.add("GET", paths.link, link)
    yield* router.add("GET", paths.sso, sso.ask)
    yield* router.add("POST", paths.sso, sso.decide)
    yield* router.add("GET", paths.account, showAccount)
    yield* router.add("POST", paths.account, changeAccount)
  })
)
