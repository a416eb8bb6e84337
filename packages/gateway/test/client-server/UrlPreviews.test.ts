import type { ServerResponse } from "node:http"
import { gzipSync } from "node:zlib"
import { assert, layer } from "@effect/vitest"
import { UrlPreviews } from "@greenroom/actors/media/UrlPreviews"
import type { Session } from "@greenroom/actors/runtime/Session"
import { UserId } from "@greenroom/protocol/Identifiers"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Fiber, Queue } from "effect"
import { TestClock } from "effect/testing"
import { register, type TestUser } from "../TestGateway.ts"
import { download, mediaGateway, png, transfer } from "./TestMedia.ts"

type Page = readonly [type: string, body: string | Buffer]

const long = "x".repeat(3_000_000)

/** The pages of the web server by path. The type `location` is a redirect. */
const pages: { readonly [path: string]: Page } = {
  "/tea": [
    "text/html; charset=utf-8",
    `<html><head><title>Not this</title>
      <meta property="og:title" content="Tea &amp; cake"><meta property="og:description" content="Five
      o'clock"><meta property="og:image" content="/cup.png"><meta property="og:image:width" content="1">
      <meta property="og:url" content="https://tea.test/"><meta property="og:secret" content="no"></head>`
  ],
  "/plain": [
    "text/html",
    '<TITLE>A  title</TITLE><meta name="Description" content="Words"><meta property=og:image content="file:///etc/passwd">'
  ],
  "/latin": ["text/html; charset=iso-8859-1", Buffer.from("<title>Tee f\u00fcr zwei</title>", "latin1")],
  "/endless": ["text/html", `<title>Endless</title>${long}`],
  "/unclosed": ["text/html", `${"<div>".repeat(100_000)}<title>Deep</title>`],
  "/closing": [
    "text/html",
    `${"<a>".repeat(150_000)}${"</b>".repeat(100_000)}<title>Closed &amp; closed</title> not this`
  ],
  "/bidi": ["text/html", "<title>\u202Eno\u0000thing\u2066 \u{1F469}\u200D\u{1F680}</title>"],
  "/cup.png": ["image/png", png],
  "/fake.png": ["image/png", "<script>alert(1)</script>"],
  "/file.zip": ["application/zip", "PK"],
  "/moved": ["location", "/tea"],
  "/inside": ["location", "http://169.254.169.254/latest/meta-data"],
  "/loop": ["location", "/loop"],
  "/script": ["location", "javascript:alert(1)"]
}

const requested: Array<string> = []

const web = serveHttp((request, response) => {
  requested.push(request.url ?? "")
  const [type, body] = pages[request.url ?? ""] ?? ["", ""]
  if (type === "") response.writeHead(404).end()
  else if (type === "location") response.writeHead(302, { location: String(body) }).end()
  else response.writeHead(200, { "content-type": type }).end(body)
})

const sessionOf = (name: string): Session => ({
  userId: UserId.make(`@${name}:green.test`),
  deviceId: "TEST",
  tokenId: 1
})

const preview = (as: TestUser, url: string) =>
  transfer("GET", `/_matrix/client/v1/media/preview_url?url=${encodeURIComponent(url)}`, { as })

layer(mediaGateway({ previewAddresses: "loopback" }).layer, { excludeTestServices: true })("previews of URLs", (it) => {
  it.effect("a preview has the metadata of the page, with its image as media of this server", () =>
    Effect.gen(function* () {
      const alice = yield* register("preview-alice")
      const url = yield* web
      const { body, status } = yield* preview(alice, `${url}/tea#part`)
      assert.strictEqual(status, 200)
      const { "og:image": image, ...texts } = body as Record<string, unknown>
      assert.deepStrictEqual(texts, {
        "og:title": "Tea & cake",
        "og:description": "Five o'clock",
        "og:url": "https://tea.test/",
        "og:image:type": "image/png",
        "og:image:width": 1,
        "og:image:height": 1,
        "matrix:image:size": png.length
      })
      const got = yield* download(alice, String(image).replace("mxc://", ""))
      assert.isTrue(got.bytes.equals(png))
      const count = requested.length
      const again = yield* transfer("GET", `/_matrix/media/r0/preview_url?url=${encodeURIComponent(`${url}/tea`)}`, {
        as: alice
      })
      assert.deepStrictEqual(again.body, body)
      assert.strictEqual(requested.length, count)
      assert.deepStrictEqual((yield* preview(alice, `${url}/moved`)).body["og:title"], "Tea & cake")
      assert.deepStrictEqual(yield* Effect.map(preview(alice, `${url}/plain`), ({ body }) => body), {
        "og:title": "A title",
        "og:description": "Words"
      } as never)
      assert.deepStrictEqual((yield* preview(alice, `${url}/latin`)).body["og:title"], "Tee f\u00fcr zwei")
      const picture = yield* preview(alice, `${url}/cup.png`)
      assert.strictEqual(picture.body["og:image:type"], "image/png")
      const nobody = yield* transfer("GET", `/_matrix/client/v1/media/preview_url?url=${url}/tea`)
      assert.strictEqual(nobody.body.errcode, "M_MISSING_TOKEN")
    }).pipe(Effect.scoped)
  )

  it.effect("hostile pages and URLs are bounded or refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("preview-hostile")
      const url = yield* web
      assert.strictEqual((yield* preview(alice, `${url}/endless`)).body["og:title"], "Endless")
      assert.strictEqual((yield* preview(alice, `${url}/unclosed`)).body["og:title"], "Deep")
      assert.strictEqual((yield* preview(alice, `${url}/closing`)).body["og:title"], "Closed & closed")
      assert.strictEqual((yield* preview(alice, `${url}/bidi`)).body["og:title"], "nothing \u{1F469}\u200D\u{1F680}")
      assert.deepStrictEqual((yield* preview(alice, `${url}/fake.png`)).body, {} as never)
      for (const path of ["/file.zip", "/missing", "/inside", "/loop", "/script"]) {
        const got = yield* preview(alice, `${url}${path}`)
        assert.deepStrictEqual([got.status, got.body.errcode], [404, "M_NOT_FOUND"], path)
      }
      for (const wrong of ["file:///etc/passwd", "javascript:alert(1)", "nothing", "gopher://127.0.0.1/"]) {
        const got = yield* preview(alice, wrong)
        assert.deepStrictEqual([got.status, got.body.errcode], [400, "M_INVALID_PARAM"], wrong)
      }
      assert.strictEqual((yield* preview(alice, url.replace("//", "//user:secret@"))).status, 404)
    }).pipe(Effect.scoped)
  )

  it.effect("a page that comes compressed, though that was not asked for, has no preview", () =>
    Effect.gen(function* () {
      const alice = yield* register("preview-compressed")
      const url = yield* serveHttp((_, response) => {
        response.writeHead(200, { "content-type": "text/html", "content-encoding": "gzip" })
        response.end(gzipSync("<title>Compressed</title>"))
      })
      assert.strictEqual((yield* preview(alice, url)).status, 404)
    }).pipe(Effect.scoped)
  )

  it.effect("a page whose image does not come is shown without it", () =>
    Effect.gen(function* () {
      const previews = yield* UrlPreviews
      const arrived = yield* Queue.unbounded<string>()
      const url = yield* serveHttp((request, response) => {
        Queue.offerUnsafe(arrived, request.url ?? "")
        if (request.url === "/never.png") return
        response.writeHead(200, { "content-type": "text/html" })
        response.end('<title>Tea</title><meta property="og:image" content="/never.png">')
      })
      const shown = yield* Effect.forkChild(previews.preview(sessionOf("alice"), `${url}/tea`))
      yield* Queue.take(arrived)
      assert.strictEqual(yield* Queue.take(arrived), "/never.png")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* Fiber.join(shown), { "og:title": "Tea" })
    }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
  )

  it.effect("users whose pages are slow do not keep others waiting", () =>
    Effect.gen(function* () {
      const previews = yield* UrlPreviews
      const arrived = yield* Queue.unbounded<string>()
      const slow: Array<ServerResponse> = []
      const url = yield* serveHttp((request, response) => {
        Queue.offerUnsafe(arrived, request.url ?? "")
        if (request.url === "/tea") response.writeHead(200, { "content-type": "text/html" }).end("<title>Tea</title>")
        else slow.push(response)
      })
      for (let page = 0; page < 40; page++) {
        yield* Effect.forkChild(Effect.ignore(previews.preview(sessionOf("mallory"), `${url}/slow${page}`)))
      }
      yield* Queue.takeN(arrived, 16)
      const shown = yield* Effect.forkChild(previews.preview(sessionOf("alice"), `${url}/tea`), {
        startImmediately: true
      })
      for (const response of slow.slice(0, 2)) response.writeHead(404).end()
      assert.include(yield* Queue.takeN(arrived, 2), "/tea")
      assert.deepStrictEqual(yield* Fiber.join(shown), { "og:title": "Tea" })
    }).pipe(Effect.scoped)
  )
})

layer(mediaGateway().layer, { excludeTestServices: true })("previews of private addresses", (it) => {
  it.effect("no request is sent to private addresses in any notation", () =>
    Effect.gen(function* () {
      const alice = yield* register("preview-private")
      const url = yield* web
      const { port } = new URL(url)
      const before = requested.length
      for (const host of ["127.0.0.1", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1."]) {
        const got = yield* preview(alice, `http://${host}:${port}/tea`)
        assert.strictEqual(got.status, 404, host)
      }
      assert.strictEqual(requested.length, before)
    }).pipe(Effect.scoped)
  )
})

layer(mediaGateway({ urlPreviews: false }).layer, { excludeTestServices: true })("without previews of URLs", (it) => {
  it.effect("the endpoint is not found", () =>
    Effect.gen(function* () {
      const alice = yield* register("preview-off")
      assert.strictEqual((yield* preview(alice, "http://192.0.2.1/")).body.errcode, "M_NOT_FOUND")
    })
  )
})
