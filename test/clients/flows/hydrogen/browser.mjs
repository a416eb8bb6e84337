/**
 * Serves the page on loopback and opens it in the Chromium of the system, which resolves no host name. Screenshots lie in
 * `test/results/clients/hydrogen`.
 */
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { chromium } from "playwright-core"

const here = fileURLToPath(new URL(".", import.meta.url))
const require = createRequire(import.meta.url)
const library = path.dirname(require.resolve("hydrogen-view-sdk"))
const assets = path.join(library, "../asset-build/assets")
const olm = path.dirname(require.resolve("@matrix-org/olm"))

export const screenshots = fileURLToPath(new URL("../../../results/clients/hydrogen/", import.meta.url))

const bundle = async () => {
  const { outputFiles } = await build({
    entryPoints: [path.join(here, "page.mjs")],
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
    logLevel: "silent",
    external: ["fs", "path", "crypto"]
  })
  return outputFiles[0].contents
}

const html = (homeserver) => `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Hydrogen</title><link rel="stylesheet" href="/assets/theme-element-light.css"><style>body { margin: 0 }</style></head>
<body><div id="app" class="hydrogen" data-homeserver="${homeserver}"></div><script type="module" src="/page.js"></script></body>
</html>`

const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm"
}

/** Serves the page on a free port. Returns its URL. */
const serve = async (homeserver) => {
  const script = await bundle()
  const contentOf = async (pathname) => {
    if (pathname === "/" || pathname === "/index.html") return html(homeserver)
    if (pathname === "/page.js") return script
    if (pathname === "/sw.js") return await readFile(path.join(library, "sw.js"))
    const [, folder, name] = pathname.split("/")
    const directory = { assets, olm }[folder]
    return directory === undefined ? undefined : await readFile(path.join(directory, path.basename(name)))
  }
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost")
    const content = await contentOf(pathname).catch(() => undefined)
    const type = pathname === "/" ? types[".html"] : (types[path.extname(pathname)] ?? "application/octet-stream")
    response.writeHead(content === undefined ? 404 : 200, { "Content-Type": type }).end(content)
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  server.unref()
  return `http://127.0.0.1:${server.address().port}/`
}

/** Opens the application. `picture` takes a screenshot. */
export const open = async (homeserver, name) => {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-dev-shm-usage",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    ]
  })
  const page = await browser.newPage({ viewport: { width: 1100, height: 760 }, colorScheme: "light" })
  page.setDefaultTimeout(10_000)
  page.on("console", (message) => console.log(`${message.type()}: ${message.text()}`))
  page.on("pageerror", (error) => console.log(`page error: ${error.stack}`))
  page.on("response", (response) => {
    if (response.url().includes("_matrix")) console.log(response.status(), response.request().method(), response.url())
  })
  await page.goto(await serve(homeserver))
  let count = 0
  const picture = (what) => page.screenshot({ path: path.join(screenshots, `${name}-${++count}-${what}.png`) })
  return { browser, page, picture }
}
