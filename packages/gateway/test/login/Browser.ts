/**
 * Chromium for tests of pages: the one of the system, without a window. Screenshots lie in
 * `node_modules/.cache/greenroom-screenshots`, for people to look at.
 */
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Context, Effect, Layer, type Scope } from "effect"
import { type Browser as Chromium, chromium, type Page } from "playwright-core"

const screenshots = fileURLToPath(new URL("../../../../node_modules/.cache/greenroom-screenshots", import.meta.url))

/** How long a page is waited for, in ms. */
const pageTimeout = 20_000

export class Browser extends Context.Service<Browser, Chromium>()("greenroom/test/Browser") {
  static readonly layer = Layer.effect(
    Browser,
    Effect.acquireRelease(
      Effect.promise(() =>
        chromium.launch({
          executablePath: "/usr/bin/chromium",
          args: [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-dev-shm-usage"
          ]
        })
      ),
      (browser) => Effect.promise(() => browser.close())
    )
  )
}

export const desktop = { width: 1000, height: 760 }
export const phone = { width: 375, height: 720 }

export interface Visit {
  readonly page: Page
  /** The errors of the page and of its console. */
  readonly complaints: Array<string>
}

export interface VisitOptions {
  readonly colorScheme?: "light" | "dark"
  readonly viewport?: { readonly width: number; readonly height: number }
}

/** Opens a URL in a new profile of the browser. */
export const visit = (url: string, options: VisitOptions = {}): Effect.Effect<Visit, never, Browser | Scope.Scope> =>
  Effect.gen(function* () {
    const browser = yield* Browser
    const context = yield* Effect.acquireRelease(
      Effect.promise(() =>
        browser.newContext({ colorScheme: options.colorScheme ?? "light", viewport: options.viewport ?? desktop })
      ),
      (context) => Effect.promise(() => context.close())
    )
    context.setDefaultTimeout(pageTimeout)
    const complaints: Array<string> = []
    context.on("weberror", (error) => complaints.push(`error: ${error.error().message}`))
    context.on("console", (message) => {
      const isAnswer = message.text().startsWith("Failed to load resource")
      if (message.type() === "error" && !isAnswer) complaints.push(`console: ${message.text()}`)
    })
    const page = yield* Effect.promise(() => context.newPage())
    yield* Effect.promise(() => page.goto(url))
    return { page, complaints }
  })

/** Takes a screenshot. Checks that the page needs no horizontal scrolling. */
export const picture = (page: Page, name: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true })
    const hidden = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert.strictEqual(hidden, 0, `pixels of ${name} beside the window`)
  })

/** A page of another origin, like a web client: it opens a URL, and keeps the messages that it receives. */
export const webClient: Effect.Effect<string, never, Scope.Scope> = serveHttp((_, response) => {
  const html = `<!DOCTYPE html><title>A client</title><button>Log in</button><script>
    window.received = []
    window.onmessage = ({ data, origin }) => window.received.push({ data, origin })
    document.querySelector("button").onclick = () => window.open(new URLSearchParams(location.search).get("open"))
  </script>`
  response.writeHead(200, { "content-type": "text/html", "referrer-policy": "origin" }).end(html)
})
