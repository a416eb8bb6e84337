/**
 * A web page that shows authenticated media by a service worker, like Element Web: the page requests images from the old
 * endpoints, and the worker requests them from the new ones with the access token of the user.
 */
import { assert, layer } from "@effect/vitest"
import { serveHttp } from "@greenroom/store/testing/Loopback"
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

/** A web client of another origin: a page and its worker. */
const client = serveHttp((request, response) => {
  const isWorker = request.url === "/worker.js"
  response.setHeader("content-type", isWorker ? "text/javascript" : "text/html")
  response.end(isWorker ? worker : document)
})

const act = <A>(action: () => Promise<A>) => Effect.promise(action)

/** Runs a function of the page, given as text, with an argument. */
const inPage = <A>(page: Page, source: string, argument: unknown): Effect.Effect<A> =>
  act(() => page.evaluate(`(${source})(${JSON.stringify(argument)})`) as Promise<A>)

/** Registers the worker, sends it the token, and waits until it controls the page. */
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

/** Shows an image. Resolves to its size, or to 0 by 0 if it cannot be loaded. */
const show = `(url) => new Promise((resolve) => {
  const image = new Image()
  image.onload = () => resolve([image.naturalWidth, image.naturalHeight])
  image.onerror = () => resolve([0, 0])
  image.src = url
  document.body.append(image)
})`

/** Opens files in frames. Resolves to the messages from the frames once all have loaded. */
const openFrames = `async (urls) => {
  const messages = []
  addEventListener("message", ({ data }) => messages.push(data))
  for (const url of urls) {
    const frame = document.createElement("iframe")
    frame.src = url
    document.body.append(frame)
    await fetch(url, { mode: "no-cors" })
  }
  // A frame of the origin of the page loads after the frames before it.
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
  it.effect("shows authenticated images by its service worker", () =>
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

layer(Layer.merge(open.layer, Browser.layer), { excludeTestServices: true })("hostile files", (it) => {
  it.effect("run no script in a frame", () =>
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
