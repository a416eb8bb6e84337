/**
 * The page at `/`: what this server is, for someone who opens its address in a browser, with links to its documentation.
 */
import { escapeHtml } from "@greenroom/protocol/HtmlText"
import type { HttpServerResponse } from "effect/http"
import { mark, page } from "./Page.ts"

export interface HomePageOptions {
  readonly serverName: string
  /** The kind of server, such as `Matrix home server`. */
  readonly kind: string
  /** A sentence about the visitor's next step. */
  readonly text: string
  readonly links: ReadonlyArray<{ readonly path: string; readonly title: string }>
}

export const homePage = ({ kind, links, serverName, text }: HomePageOptions): HttpServerResponse.HttpServerResponse => {
  const items = links.map(
    ({ path, title }) => `<li><a class="button plain" href="${escapeHtml(path)}">${escapeHtml(title)}</a></li>`
  )
  return page({
    title: `${serverName} - ${kind}`,
    content: `${mark}
<h1>${escapeHtml(serverName)}</h1>
<p class="soft">A ${escapeHtml(kind)}, run by Greenroom</p>
<p>${escapeHtml(text)}</p>
<ul class="choices">
${items.join("\n")}
</ul>`
  })
}
