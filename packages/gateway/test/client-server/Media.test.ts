import { randomBytes } from "node:crypto"
import { readdirSync } from "node:fs"
import * as http from "node:http"
import * as path from "node:path"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { register, type TestUser } from "../TestGateway.ts"
import { download, mediaGateway, png, transfer, upload } from "./TestMedia.ts"

const { directory, layer: gateway } = mediaGateway({ maxUploadBytes: 200_000, quotaBytes: 500_000 })

const filesIn = (folder: string) =>
  readdirSync(path.join(directory, folder), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())

/** An upload that declares `length` bytes, and disconnects after `sent` bytes. */
const abortUpload = (as: TestUser, length: number, sent: number) =>
  Effect.flatMap(Gateway, ({ url }) =>
    Effect.callback<void>((resume) => {
      const request = http.request(`${url}/_matrix/media/v3/upload`, {
        method: "POST",
        headers: { authorization: `Bearer ${as.token}`, "content-length": length }
      })
      request.on("error", () => resume(Effect.void))
      request.on("close", () => resume(Effect.void))
      request.write(Buffer.alloc(sent), () => request.destroy())
    })
  )

layer(gateway, { excludeTestServices: true })("the content repository", (it) => {
  it.effect("a file is downloaded as it was uploaded, by all endpoints and versions", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-alice")
      const bytes = randomBytes(150_000)
      const file = yield* upload(alice, bytes, { name: "notes.bin", type: "application/x-notes" })
      assert.match(file, /^green\.test\/[A-Za-z0-9_-]{24}$/)
      for (const target of [
        `/_matrix/client/v1/media/download/${file}`,
        `/_matrix/media/v3/download/${file}`,
        `/_matrix/media/r0/download/${file}`,
        `/_matrix/media/v1/download/${file}`
      ]) {
        const got = yield* transfer("GET", target, target.includes("/client/") ? { as: alice } : {})
        assert.strictEqual(got.status, 200)
        assert.isTrue(got.bytes.equals(bytes))
        assert.strictEqual(got.headers.get("content-type"), "application/x-notes")
        assert.strictEqual(got.headers.get("content-length"), "150000")
        assert.strictEqual(got.headers.get("content-disposition"), "attachment; filename=notes.bin")
      }
      const anonymous = yield* transfer("GET", `/_matrix/client/v1/media/download/${file}`)
      assert.strictEqual(anonymous.body.errcode, "M_MISSING_TOKEN")
      const nobody = yield* transfer("POST", "/_matrix/media/v3/upload", { bytes })
      assert.strictEqual(nobody.body.errcode, "M_MISSING_TOKEN")
      const missing = yield* download(alice, "green.test/nothing")
      assert.deepStrictEqual([missing.status, missing.body.errcode], [404, "M_NOT_FOUND"])
      const wrong = yield* download(alice, "green.test/..%2F..%2Fetc%2Fpasswd")
      assert.deepStrictEqual([wrong.status, wrong.body.errcode], [404, "M_NOT_FOUND"])
      const config = yield* transfer("GET", "/_matrix/client/v1/media/config", { as: alice })
      assert.deepStrictEqual(config.body, { "m.upload.size": 200_000 } as never)
    })
  )

  it.effect("clients of the draft upload to /matrix/content, and download from the returned URL", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-2014")
      const { url } = yield* Gateway
      for (const [method, target] of [
        ["POST", "/matrix/content"],
        ["PUT", "/_matrix/content/"]
      ] as const) {
        const query = `?access_token=${alice.token}`
        const sent = yield* transfer(method, `${target}${query}`, {
          bytes: png,
          headers: { "content-type": "image/png" }
        })
        assert.strictEqual(sent.status, 200)
        const token = String(sent.body.content_token)
        assert.isTrue(token.startsWith(`${url}/matrix/content/`), token)
        for (const path of [token.slice(url.length), `/_${token.slice(url.length + 1)}`]) {
          const got = yield* transfer("GET", path)
          assert.isTrue(got.bytes.equals(png))
          assert.strictEqual(got.headers.get("content-type"), "image/png")
        }
        const today = yield* download(alice, `green.test/${token.split("/").at(-1)}`)
        assert.isTrue(today.bytes.equals(png))
      }
      const nobody = yield* transfer("POST", "/matrix/content", { bytes: png })
      assert.strictEqual(nobody.body.errcode, "M_MISSING_TOKEN")
    })
  )

  it.effect("an uploaded file can be the avatar of a user", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-avatar")
      const file = yield* upload(alice, png, { type: "image/png" })
      const profile = `/_matrix/client/v3/profile/${encodeURIComponent(alice.id)}/avatar_url`
      yield* transfer("PUT", profile, {
        as: alice,
        bytes: Buffer.from(JSON.stringify({ avatar_url: `mxc://${file}` }))
      })
      const { body } = yield* transfer("GET", profile)
      assert.strictEqual(body.avatar_url, `mxc://${file}`)
    })
  )

  it.effect("an empty file is stored", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-empty")
      const got = yield* download(alice, yield* upload(alice, ""))
      assert.deepStrictEqual([got.status, got.bytes.length], [200, 0])
      assert.strictEqual(got.headers.get("content-type"), "application/octet-stream")
    })
  )

  it.effect("equal content is stored once for all users", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-once-alice")
      const bob = yield* register("media-once-bob")
      const bytes = randomBytes(1_000)
      const before = yield* upload(alice, bytes)
      const stored = filesIn("content").length
      const files = yield* Effect.all(
        Array.from({ length: 8 }, () => upload(bob, bytes)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set([before, ...files]).size, 9)
      assert.strictEqual(filesIn("content").length, stored)
      for (const file of files) assert.isTrue((yield* download(alice, file)).bytes.equals(bytes))
    })
  )

  it.effect("ranges and conditional requests are answered with a part of the file or without it", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-ranges")
      const bytes = randomBytes(10_000)
      const file = yield* upload(alice, bytes, { type: "video/mp4" })
      const ask = (range: string, more = {}) => download(alice, file, { range, ...more })
      for (const [range, start, end] of [
        ["bytes=0-99", 0, 99],
        ["bytes=9000-", 9_000, 9_999],
        ["bytes=-10", 9_990, 9_999],
        ["bytes=9990-99999", 9_990, 9_999],
        ["bytes=9990-99999999999999999999", 9_990, 9_999],
        ["bytes=-99999", 0, 9_999]
      ] as const) {
        const got = yield* ask(range)
        assert.strictEqual(got.status, 206, range)
        assert.isTrue(got.bytes.equals(bytes.subarray(start, end + 1)), range)
        assert.strictEqual(got.headers.get("content-range"), `bytes ${start}-${end}/10000`)
      }
      for (const range of ["bytes=10000-", "bytes=99999999999-", "bytes=99999999999999999999-", "bytes=-0"]) {
        const got = yield* ask(range)
        assert.deepStrictEqual([got.status, got.headers.get("content-range")], [416, "bytes */10000"], range)
      }
      for (const range of ["bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"]) {
        const got = yield* ask(range)
        assert.deepStrictEqual([got.status, got.bytes.length], [200, 10_000], range)
      }
      const whole = yield* download(alice, file)
      const etag = whole.headers.get("etag")!
      const again = yield* download(alice, file, { "if-none-match": `"other", ${etag}` })
      assert.deepStrictEqual([again.status, again.bytes.length], [304, 0])
      assert.strictEqual((yield* ask("bytes=0-9", { "if-range": etag })).status, 206)
      assert.strictEqual((yield* ask("bytes=0-9", { "if-range": '"other"' })).status, 200)
      const head = yield* transfer("HEAD", `/_matrix/client/v1/media/download/${file}`, { as: alice })
      assert.deepStrictEqual([head.status, head.headers.get("content-length"), head.bytes.length], [200, "10000", 0])
    })
  )

  it.effect("a file that is too large is refused with and without a declared length, and not stored", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-large")
      const declared = yield* transfer("POST", "/_matrix/media/v3/upload", { as: alice, bytes: Buffer.alloc(200_001) })
      assert.deepStrictEqual([declared.status, declared.body.errcode], [413, "M_TOO_LARGE"])
      const { url } = yield* Gateway
      const undeclared = yield* Effect.promise(() =>
        fetch(`${url}/_matrix/media/v3/upload`, {
          method: "POST",
          headers: { authorization: `Bearer ${alice.token}` },
          body: new Blob([Buffer.alloc(900_000)]).stream(),
          duplex: "half"
        } as RequestInit)
      )
      assert.strictEqual(undeclared.status, 413)
      assert.isEmpty(filesIn("incoming"))
      assert.strictEqual((yield* transfer("POST", "/_matrix/media/v3/upload", { as: alice, bytes: png })).status, 200)
    })
  )

  it.effect("an aborted upload is not stored", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-broken")
      const before = filesIn("content").length
      for (const [length, sent] of [
        [100_000, 70_000],
        [150_000, 10],
        [1e15, 10]
      ] as const) {
        yield* abortUpload(alice, length, sent)
      }
      // The server accepts the connection of this upload after the aborted ones.
      yield* upload(alice, randomBytes(10))
      while (filesIn("incoming").length > 0) yield* Effect.yieldNow
      assert.strictEqual(filesIn("content").length, before + 1)
    })
  )

  it.effect("concurrent uploads cannot exceed the quota", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-quota")
      const answers = yield* Effect.all(
        Array.from({ length: 8 }, () =>
          transfer("POST", "/_matrix/media/v3/upload", { as: alice, bytes: randomBytes(150_000) })
        ),
        { concurrency: "unbounded" }
      )
      const statuses = answers.map(({ status }) => status)
      assert.strictEqual(statuses.filter((status) => status === 200).length, 3)
      for (const { body, status } of answers) if (status !== 200) assert.strictEqual(body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("a content ID is created first, and its file uploaded once by its creator", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-later-alice")
      const bob = yield* register("media-later-bob")
      const { body } = yield* transfer("POST", "/_matrix/media/v1/create", { as: alice })
      assert.isAbove(Number(body.unused_expires_at), Date.now())
      const file = String(body.content_uri).replace("mxc://", "")
      const early = yield* transfer("GET", `/_matrix/client/v1/media/download/${file}?timeout_ms=0`, { as: bob })
      assert.deepStrictEqual([early.status, early.body.errcode], [504, "M_NOT_YET_UPLOADED"])
      const put = (as: TestUser, bytes: Uint8Array, target = file) =>
        transfer("PUT", `/_matrix/media/v3/upload/${target}`, { as, bytes, headers: { "content-type": "image/png" } })
      const stolen = yield* put(bob, png)
      assert.deepStrictEqual([stolen.status, stolen.body.errcode], [403, "M_FORBIDDEN"])
      const [waiting, sent] = yield* Effect.all([download(bob, file), put(alice, png)], { concurrency: "unbounded" })
      assert.strictEqual(sent.status, 200)
      assert.isTrue(waiting.bytes.equals(png))
      const again = yield* put(alice, Buffer.from("other"))
      assert.deepStrictEqual([again.status, again.body.errcode], [409, "M_CANNOT_OVERWRITE_MEDIA"])
      assert.isTrue((yield* download(bob, file)).bytes.equals(png))
      const unknown = yield* put(alice, png, "green.test/unknown")
      assert.deepStrictEqual([unknown.status, unknown.body.errcode], [404, "M_NOT_FOUND"])
    })
  )

  it.effect("one of several uploads to a content ID succeeds, and the others are refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-race")
      const { body } = yield* transfer("POST", "/_matrix/media/v1/create", { as: alice })
      const file = String(body.content_uri).replace("mxc://", "")
      const answers = yield* Effect.all(
        [1, 2, 3].map(() =>
          transfer("PUT", `/_matrix/media/v3/upload/${file}`, { as: alice, bytes: randomBytes(5_000) })
        ),
        { concurrency: "unbounded" }
      )
      assert.sameMembers(
        answers.map(({ status }) => status),
        [200, 409, 409]
      )
    })
  )

  it.effect("content IDs without a file are limited in number for each user", () =>
    Effect.gen(function* () {
      const alice = yield* register("media-hoard")
      for (let count = 0; count < 100; count++) {
        assert.strictEqual((yield* transfer("POST", "/_matrix/media/v1/create", { as: alice })).status, 200)
      }
      const refused = yield* transfer("POST", "/_matrix/media/v1/create", { as: alice })
      assert.deepStrictEqual([refused.status, refused.body.errcode], [429, "M_LIMIT_EXCEEDED"])
    })
  )
})

layer(gateway, { excludeTestServices: true })("hostile files", (it) => {
  it.effect("files that a browser would run are sandboxed attachments with a harmless type", () =>
    Effect.gen(function* () {
      const alice = yield* register("hostile-alice")
      const html = "<!doctype html><script>alert(1)</script>"
      const svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
      const hostile: ReadonlyArray<readonly [type: string | undefined, bytes: string | Uint8Array]> = [
        ["text/html", html],
        ["TEXT/HTML; charset=utf-8", html],
        ["image/svg+xml", svg],
        ["application/xhtml+xml", svg],
        ["text/xml", svg],
        ["image/png", html],
        ["image/png", `  \n\t${svg}`],
        ["image/png", Buffer.from(`\ufeff${html}`, "utf16le")],
        ["text/javascript", "alert(1)"],
        ["application/pdf", "%PDF-1.7"],
        ["image/gif", `GIF89a/*${html}*/=1`],
        ["multipart/x-mixed-replace; boundary=x", html],
        ["text/html\u00e9", html],
        [undefined, html]
      ]
      for (const [type, bytes] of hostile) {
        const got = yield* download(alice, yield* upload(alice, bytes, type === undefined ? {} : { type }))
        assert.strictEqual(got.status, 200)
        const served = got.headers.get("content-type") ?? ""
        assert.notMatch(served, /html|xml|svg|javascript|pdf|multipart/i, type ?? "no type")
        if (served !== "image/gif")
          assert.match(got.headers.get("content-disposition") ?? "", /^attachment/, type ?? "")
        assert.strictEqual(got.headers.get("x-content-type-options"), "nosniff")
        assert.match(
          got.headers.get("content-security-policy") ?? "",
          /^sandbox; default-src 'none'; script-src 'none'/
        )
      }
    })
  )

  it.effect("images are inline, with the type of their bytes", () =>
    Effect.gen(function* () {
      const alice = yield* register("hostile-images")
      const typeOf = Effect.fnUntraced(function* (type: string, bytes: Uint8Array | string) {
        const { headers } = yield* download(alice, yield* upload(alice, bytes, { type }))
        return [headers.get("content-type"), headers.get("content-disposition")]
      })
      assert.deepStrictEqual(yield* typeOf("image/png", png), ["image/png", "inline"])
      assert.deepStrictEqual(yield* typeOf("image/jpeg", png), ["image/png", "inline"])
      assert.deepStrictEqual(yield* typeOf("text/plain; charset=utf-8", "hello"), [
        "text/plain; charset=utf-8",
        "inline"
      ])
      assert.deepStrictEqual(yield* typeOf("image/png", "no image"), ["image/png", "attachment"])
      assert.deepStrictEqual(yield* typeOf("application/octet-stream", png), ["application/octet-stream", "attachment"])
    })
  )

  it.effect("file names are cleaned of paths, of misleading characters and of header syntax", () =>
    Effect.gen(function* () {
      const alice = yield* register("hostile-names")
      const dispositionOf = Effect.fnUntraced(function* (name: string) {
        const { headers } = yield* download(alice, yield* upload(alice, png, { name, type: "application/x" }))
        return headers.get("content-disposition")
      })
      assert.strictEqual(yield* dispositionOf("../../etc/passwd"), "attachment; filename=passwd")
      assert.strictEqual(yield* dispositionOf("C:\\windows\\evil.exe"), "attachment; filename=evil.exe")
      assert.strictEqual(yield* dispositionOf(".."), "attachment")
      assert.strictEqual(yield* dispositionOf(".bashrc"), "attachment; filename=bashrc")
      assert.strictEqual(yield* dispositionOf("invoice\u202egpj.exe"), "attachment; filename=invoicegpj.exe")
      assert.strictEqual(yield* dispositionOf('a"b\\c;d\r\nSet-Cookie: x'), 'attachment; filename="c;dSet-Cookie: x"')
      assert.strictEqual(yield* dispositionOf("Tee 🫖.txt"), "attachment; filename*=utf-8''Tee%20%F0%9F%AB%96.txt")
      const long = yield* dispositionOf(`${"ä".repeat(1_000)}.jpeg`)
      assert.match(long ?? "", /(?:%C3%A4){125}\.jpeg$/)
      const file = yield* upload(alice, png, { name: "one.png", type: "image/png" })
      const renamed = yield* download(alice, `${file}/..%2Ftwo.png`)
      assert.strictEqual(renamed.headers.get("content-disposition"), "inline; filename=two.png")
    })
  )
})

const frozen = mediaGateway({ freezeUnauthenticated: true })

layer(frozen.layer, { excludeTestServices: true })("with freezeUnauthenticated", (it) => {
  it.effect("the old endpoints do not serve new files", () =>
    Effect.gen(function* () {
      const alice = yield* register("frozen-alice")
      const file = yield* upload(alice, png)
      assert.strictEqual((yield* download(alice, file)).status, 200)
      const old = yield* transfer("GET", `/_matrix/media/v3/download/${file}`)
      assert.deepStrictEqual([old.status, old.body.errcode], [404, "M_NOT_FOUND"])
    })
  )
})

const few = mediaGateway({ quotaFiles: 3 })

layer(few.layer, { excludeTestServices: true })("with a quota of files", (it) => {
  it.effect("the files of a user are limited in number", () =>
    Effect.gen(function* () {
      const alice = yield* register("few-alice")
      const bob = yield* register("few-bob")
      const send = (as: TestUser, bytes: Uint8Array) => transfer("POST", "/_matrix/media/v3/upload", { as, bytes })
      const answers = yield* Effect.all(
        Array.from({ length: 6 }, (_, n) => send(alice, Buffer.from([n]))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 403, 403, 403])
      assert.strictEqual((yield* send(alice, png)).body.errcode, "M_FORBIDDEN")
      const { body } = yield* transfer("POST", "/_matrix/media/v1/create", { as: alice })
      const target = String(body.content_uri).replace("mxc://", "/_matrix/media/v3/upload/")
      assert.strictEqual((yield* transfer("PUT", target, { as: alice, bytes: png })).body.errcode, "M_FORBIDDEN")
      assert.strictEqual((yield* send(bob, png)).status, 200)
    })
  )
})
