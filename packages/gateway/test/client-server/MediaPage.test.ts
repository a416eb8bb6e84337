/**
 * A web page that shows authenticated media by a service worker, as Element Web does: images are asked for at the old
 * endpoints, and the worker asks at the new ones with the user's access token instead.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import sharp from "sharp"
import { Gateway } from "../../src/Gateway.ts"
import { Browser, visit } from "../login/Browser.ts"
import { register } from "../TestGateway.ts"
import { mediaGateway, transfer, upload } from "./TestMedia.ts"

const document = "<!doctype html><meta charset=utf-8><title>Media</title><body>"

const worker = `
  let token
  self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()))
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()))
  self.addEventListener("message", (event) => {
    token = event.data
    event.source.postMessage("ready")
  })
  self.addEventListener("fetch", (event) => {
    const url = new URL(event.request.url)
    const match = /^\\/_matrix\\/media\\/v3\\/(download|thumbnail)\\//.exec(url.pathname)
    if (match === null) return
    url.pathname = url.pathname.replace("/_matrix/media/v3/", "/_matrix/client/v1/media/")
    event.respondWith(fetch(url, { headers: { Authorization: "Bearer " + token } }))
  })
`

/** The web client: a page and its worker, from an origin of their own. */
const client = Effect.acquireRelease(
  Effect.callback<ReturnType<typeof createServer>>((resume) => {
    const server = createServer((request, response) => {
      const isWorker = request.url === "/worker.js"
      response.setHeader("content-type", isWorker ? "text/javascript" : "text/html")
      response.end(isWorker ? worker : document)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) =>
    Effect.sync(() => {
      server.closeAllConnections()
      server.close()
    })
).pipe(Effect.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`))

const act = <A>(action: () => Promise<A>) => Effect.promise(action)

/** Runs a function of the page, given as text, with an argument. */
const inPage = <A>(page: Page, source: string, argument: unknown): Effect.Effect<A> =>
  act(() => page.evaluate(`(${source})(${JSON.stringify(argument)})`) as Promise<A>)

/** The worker takes the token and controls the page. */
const startWorker = `async (token) => {
  await navigator.serviceWorker.register("/worker.js")
  const { active } = await navigator.serviceWorker.ready
  const isReady = new Promise((resolve) => navigator.serviceWorker.addEventListener("message", resolve))
  active.postMessage(token)
  await isReady
  if (navigator.serviceWorker.controller === null) {
    await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve))
  }
}`

/** The size of the image that is shown; 0 by 0 where it is broken. */
const show = `(url) => new Promise((resolve) => {
  const image = new Image()
  image.onload = () => resolve([image.naturalWidth, image.naturalHeight])
  image.onerror = () => resolve([0, 0])
  image.src = url
  document.body.append(image)
})`

/** The results of frames with these files, once all of them have answered. */
const openFrames = `async (urls) => {
  const messages = []
  addEventListener("message", ({ data }) => messages.push(data))
  for (const url of urls) {
    const frame = document.createElement("iframe")
    frame.src = url
    document.body.append(frame)
    await fetch(url, { mode: "no-cors" })
  }
  // The frame of the page's own origin is opened last, and loads after the others have been refused.
  const last = document.createElement("iframe")
  last.src = "/"
  await new Promise((resolve) => {
    last.onload = resolve
    document.body.append(last)
  })
  return messages
}`

const frozen = mediaGateway({ freezeUnauthenticated: true })

layer(Layer.merge(frozen.layer, Browser.layer), { excludeTestServices: true })("a page of another origin", (it) => {
  it.effect("shows images that only users may see by its service worker", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const alice = yield* register("page-alice")
      const bytes = yield* act(() =>
        sharp({ create: { width: 640, height: 480, channels: 3, background: "teal" } })
          .png()
          .toBuffer()
      )
      const file = yield* upload(alice, bytes, { type: "image/png" })
      const without = yield* transfer("GET", `/_matrix/media/v3/download/${file}`)
      assert.strictEqual(without.status, 404)
      const { page } = yield* visit(yield* client)
      yield* inPage(page, startWorker, alice.token)
      const shown = (path: string) => inPage(page, show, `${url}/_matrix/media/v3/${path}`)
      assert.deepStrictEqual(yield* shown(`download/${file}`), [640, 480])
      assert.deepStrictEqual(yield* shown(`thumbnail/${file}?width=96&height=96&method=crop`), [96, 96])
      assert.deepStrictEqual(yield* shown("download/green.test/missing"), [0, 0])
    }).pipe(Effect.scoped)
  )
})

const open = mediaGateway()

layer(Layer.merge(open.layer, Browser.layer), { excludeTestServices: true })("files that are opened", (it) => {
  it.effect("hostile files run nowhere, in a frame or as a page", () =>
    Effect.gen(function* () {
      const { url } = yield* Gateway
      const alice = yield* register("page-hostile")
      const script = "<script>parent.postMessage('ran', '*'); top.document.title = 'ran'</script>"
      const html = yield* upload(alice, `<!doctype html>${script}`, { type: "text/html" })
      const svg = yield* upload(alice, `<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`, {
        type: "image/svg+xml"
      })
      const lie = yield* upload(alice, `<!doctype html>${script}`, { type: "image/png" })
      const { page } = yield* visit(yield* client)
      const addresses = [html, svg, lie].map((file) => `${url}/_matrix/media/v3/download/${file}`)
      const ran = yield* inPage<ReadonlyArray<unknown>>(page, openFrames, addresses)
      assert.isEmpty(ran)
      assert.strictEqual(yield* act(() => page.title()), "Media")
    }).pipe(Effect.scoped)
  )
})
