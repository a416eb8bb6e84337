/**
 * Files of other home servers: of another Greenroom, of an old server, and of hostile servers.
 */
import { createHash, randomBytes } from "node:crypto"
import { readdirSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as HomeServer from "@greenroom/actors/HomeServer"
import { Bans } from "@greenroom/actors/runtime/Bans"
import { ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer } from "effect"
import { type Reply, tlsServer } from "../../../actors/test/federation/support/TlsServer.ts"
import { FederationListener } from "../../src/federation/FederationListener.ts"
import { Gateway } from "../../src/Gateway.ts"
import { unlimited } from "../../src/Rate.ts"
import { download, png, transfer, upload } from "../client-server/TestMedia.ts"
import { register } from "../TestGateway.ts"
import { ask } from "./support/TestServer.ts"

const maxRemoteBytes = 300_000

/** A home server with both listeners, and with files and a database of its own. */
const makeHome = Effect.fnUntraced(function* (
  serverName: string,
  port: number,
  staticServers: { readonly [name: string]: string }
) {
  const directory = yield* temporaryDirectory("remote")
  const { anonymous, requests, sends } = unlimited
  const services = yield* Layer.build(
    Layer.fresh(
      Layer.merge(
        Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited }),
        FederationListener.layer({ host: "127.0.0.1", port, rates: { anonymous, requests, sends } })
      ).pipe(
        Layer.provideMerge(
          HomeServer.layerOnDatabase({
            serverName: ServerName.make(serverName),
            dataDir: directory,
            media: { maxRemoteBytes },
            federation: { verifyCertificates: false, staticServers }
          })
        ),
        Layer.provideMerge(TestDatabase.layer)
      )
    )
  )
  const filesIn = (folder: string) =>
    readdirSync(path.join(directory, "media", folder), { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile()
    ).length
  const ban = (content: Buffer) =>
    Context.get(services, Bans).add({
      kind: "sha256",
      value: createHash("sha256").update(content).digest("hex"),
      reason: "illegal",
      bannedBy: "@admin:test" as UserId
    })
  return { at: Effect.provideService(Gateway, Context.get(services, Gateway)), ban, filesIn }
})

const multipart = (headers: string, body: string | Buffer, end = "\r\n--edge--\r\n"): Reply => ({
  headers: { "content-type": "multipart/mixed; boundary=edge" },
  body: Buffer.concat([
    Buffer.from(`--edge\r\nContent-Type: application/json\r\n\r\n{}\r\n--edge\r\n${headers}\r\n\r\n`),
    Buffer.from(body),
    Buffer.from(end)
  ])
})

const error = (status: number, errcode: string): Reply => ({ status, body: JSON.stringify({ errcode, error: "no" }) })

/** The answer of the hostile server for each media ID. */
const hostile: { readonly [mediaId: string]: Reply } = {
  html: multipart("Content-Type: text/html", "<script>alert(1)</script>"),
  svg: multipart("Content-Type: image/png", "<svg/>"),
  name: multipart('Content-Type: image/png\r\nContent-Disposition: inline; filename="../a\u202e.png"', png),
  inside: multipart("Location: http://169.254.169.254/latest/meta-data", ""),
  file: multipart("Location: file:///etc/passwd", ""),
  large: multipart("Content-Type: image/png", Buffer.alloc(maxRemoteBytes + 1)),
  cut: multipart("Content-Type: image/png", png, ""),
  endless: { headers: { "content-type": "multipart/mixed; boundary=edge" }, body: Buffer.alloc(500_000, "x") },
  wrong: { headers: { "content-type": "multipart/mixed" }, body: "" },
  plain: { headers: { "content-type": "image/png" }, body: png },
  nothing: error(404, "M_NOT_FOUND"),
  later: error(504, "M_NOT_YET_UPLOADED"),
  broken: { status: 500, body: "<html>" },
  almost: multipart("Content-Type: application/x", "before\r\n--edg\r\n-\r\n--ed")
}

describe("files of other servers", () => {
  it.live(
    "are fetched once, and served like local files",
    () =>
      Effect.gen(function* () {
        const [greenPort, bluePort] = [yield* freePort, yield* freePort]
        const addresses = { "green.test": `127.0.0.1:${greenPort}`, "blue.test": `127.0.0.1:${bluePort}` }
        const green = yield* makeHome("green.test", greenPort, addresses)
        const blue = yield* makeHome("blue.test", bluePort, addresses)
        const alice = yield* green.at(register("alice"))
        const bob = yield* blue.at(register("bob"))
        const bytes = randomBytes(250_000)
        const file = yield* blue.at(upload(bob, bytes, { name: "Tee 🫖.bin", type: "application/x-tea" }))
        const answers = yield* Effect.all(
          Array.from({ length: 10 }, () => green.at(download(alice, file))),
          { concurrency: "unbounded" }
        )
        for (const got of answers) {
          assert.strictEqual(got.status, 200)
          assert.isTrue(got.bytes.equals(bytes))
          assert.strictEqual(got.headers.get("content-type"), "application/x-tea")
          assert.strictEqual(
            got.headers.get("content-disposition"),
            "attachment; filename*=utf-8''Tee%20%F0%9F%AB%96.bin"
          )
        }
        assert.strictEqual(green.filesIn("content"), 1)
        const part = yield* green.at(download(alice, file, { range: "bytes=5-9" }))
        assert.isTrue(part.bytes.equals(bytes.subarray(5, 10)))
        const old = yield* green.at(transfer("GET", `/_matrix/media/r0/download/${file}`))
        assert.strictEqual(old.status, 200)
        const image = yield* blue.at(upload(bob, png, { type: "image/png" }))
        const here = yield* green.at(transfer("GET", `/_matrix/media/r0/download/${image}?allow_remote=false`))
        assert.strictEqual(here.status, 404)
        const thumbnail = yield* green.at(
          transfer("GET", `/_matrix/client/v1/media/thumbnail/${image}?width=32&height=32`, { as: alice })
        )
        assert.strictEqual(thumbnail.status, 200)
        const illegal = randomBytes(1_000)
        yield* green.ban(illegal)
        const banned = yield* blue.at(upload(bob, illegal, { type: "application/x-tea" }))
        const kept = green.filesIn("content")
        const refused = yield* green.at(download(alice, banned))
        assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
        assert.strictEqual(green.filesIn("content"), kept)
        const missing = yield* green.at(download(alice, "blue.test/missing"))
        assert.deepStrictEqual([missing.status, missing.body.errcode], [404, "M_NOT_FOUND"])
        const { body } = yield* blue.at(transfer("POST", "/_matrix/media/v1/create", { as: bob }))
        const announced = String(body.content_uri).replace("mxc://", "")
        const early = yield* green.at(
          transfer("GET", `/_matrix/client/v1/media/download/${announced}?timeout_ms=0`, { as: alice })
        )
        assert.deepStrictEqual([early.status, early.body.errcode], [504, "M_NOT_YET_UPLOADED"])
        const unsigned = yield* ask({
          port: bluePort,
          path: `/_matrix/federation/v1/media/download/${file.split("/")[1]}`
        })
        assert.strictEqual(unsigned.status, 401)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "are fetched by the old endpoint from old servers, and checked and bounded from hostile servers",
    () =>
      Effect.gen(function* () {
        const greenPort = yield* freePort
        const remote = yield* tlsServer(({ path: target }) => {
          const mediaId = /download\/(?:old\.test\/)?([^/?]+)/.exec(target)?.[1] ?? ""
          if (mediaId in hostile) return hostile[mediaId]
          return target.startsWith("/_matrix/media/v3/download/old.test/ancient")
            ? { body: png, headers: { "content-type": "image/png", "content-disposition": "inline; filename=old.png" } }
            : error(404, "M_UNRECOGNIZED")
        })
        const green = yield* makeHome("green.test", greenPort, { "old.test": `127.0.0.1:${remote.port}` })
        const alice = yield* green.at(register("alice"))
        const get = (mediaId: string) => green.at(download(alice, `old.test/${mediaId}`))

        const ancient = yield* get("ancient")
        assert.isTrue(ancient.bytes.equals(png))
        assert.strictEqual(ancient.headers.get("content-disposition"), "inline; filename=old.png")
        assert.isTrue((yield* get("ancient")).bytes.equals(png))
        assert.strictEqual(remote.requests.filter(({ path: target }) => target.includes("ancient")).length, 2)

        for (const mediaId of ["html", "svg"]) {
          const got = yield* get(mediaId)
          assert.strictEqual(got.headers.get("content-type"), "application/octet-stream")
          assert.match(got.headers.get("content-disposition") ?? "", /^attachment/)
        }
        assert.strictEqual((yield* get("name")).headers.get("content-disposition"), "inline; filename=a.png")
        assert.strictEqual((yield* get("almost")).bytes.toString(), "before\r\n--edg\r\n-\r\n--ed")
        for (const mediaId of ["inside", "file", "endless", "wrong", "plain", "nothing", "broken"]) {
          const got = yield* get(mediaId)
          assert.deepStrictEqual([got.status, got.body.errcode], [404, "M_NOT_FOUND"], mediaId)
        }
        assert.strictEqual((yield* get("later")).body.errcode, "M_NOT_YET_UPLOADED")
        assert.strictEqual((yield* get("large")).body.errcode, "M_TOO_LARGE")
        const before = green.filesIn("content")
        assert.strictEqual((yield* get("cut")).body.errcode, "M_NOT_FOUND")
        assert.strictEqual(green.filesIn("content"), before)
        assert.strictEqual(green.filesIn("incoming"), 0)
      }).pipe(Effect.scoped),
    120_000
  )
})
