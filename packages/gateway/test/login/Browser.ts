/**
 * Chromium for tests of pages: the one of the system, without a window. Screenshots lie in
 * `node_modules/.cache/greenroom-screenshots`, for people to look at.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { Context, Effect, Layer, type Scope } from "effect"
import { type Browser as Chromium, chromium, type Page } from "playwright-core"

const screenshots = fileURLToPath(new URL("../../../../node_modules/.cache/greenroom-screenshots", import.meta.url))

/** Each test waits for its pages in vain no longer than this, in ms. */
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
  /** The errors on the page, and its requests to other origins than `allowed`. */
  readonly complaints: Array<string>
}

export interface VisitOptions {
  readonly colorScheme?: "light" | "dark"
  readonly viewport?: { readonly width: number; readonly height: number }
}

/** A page of a fresh browser profile. */
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

/** Takes a picture, of which the width must not need scrolling. The number of pixels that are too many. */
export const picture = (page: Page, name: string): Effect.Effect<number> =>
  Effect.promise(async () => {
    await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true })
    return page.evaluate(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    ) as Promise<number>
  })

/** A page of another origin, as a web client has one: it opens the URL and keeps what it is told. */
export const webClient: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const html = `<!DOCTYPE html><title>A client</title><button>Log in</button><script>
        window.told = []
        window.onmessage = ({ data, origin }) => window.told.push({ data, origin })
        document.querySelector("button").onclick = () => window.open(new URLSearchParams(location.search).get("open"))
      </script>`
      const server = createServer((_, response) => {
        response.writeHead(200, { "content-type": "text/html", "referrer-policy": "origin" }).end(html)
      }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  ),
  (server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
)
