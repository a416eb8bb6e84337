/** Files in an S3-compatible store, a real one. */
import { randomBytes } from "node:crypto"
import { readdirSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { S3Options } from "@greenroom/actors/media/MediaConfig"
import { checkAtStart, checkStore } from "@greenroom/actors/media/S3Files"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, Logger, Queue, Redacted } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { hasS3Store, s3Store } from "../support/S3Store.ts"
import { gatewayOnDatabase, register } from "../TestGateway.ts"
import { download, png, transfer, upload } from "./TestMedia.ts"

/** A node on the database of the test, with a directory of its own. */
const makeNode = Effect.fnUntraced(function* (s3: S3Options) {
  const directory = yield* temporaryDirectory("node")
  const services = yield* Layer.build(Layer.fresh(gatewayOnDatabase({}, { dataDir: directory, media: { s3 } })))
  const at = Effect.provideService(Gateway, Context.get(services, Gateway))
  return { at, incoming: () => readdirSync(path.join(directory, "media", "incoming")) }
})

describe.skipIf(!hasS3Store)("files in an S3-compatible store", () => {
  it.live(
    "are stored once, and served by every node whole and by ranges",
    () =>
      Effect.gen(function* () {
        const { objects, s3 } = yield* s3Store
        const one = yield* makeNode(s3)
        const two = yield* makeNode(s3)
        const alice = yield* one.at(register("s3-alice"))
        const bytes = randomBytes(3_000_000)
        const file = yield* one.at(upload(alice, bytes, { type: "video/mp4" }))
        yield* two.at(upload(alice, bytes))
        assert.strictEqual(objects().length, 1)
        const whole = yield* two.at(download(alice, file))
        assert.isTrue(whole.bytes.equals(bytes))
        const part = yield* two.at(download(alice, file, { range: "bytes=1000000-1000099" }))
        assert.strictEqual(part.status, 206)
        assert.isTrue(part.bytes.equals(bytes.subarray(1_000_000, 1_000_100)))
        const image = yield* one.at(upload(alice, png, { type: "image/png" }))
        const thumbnail = yield* two.at(
          transfer("GET", `/_matrix/client/v1/media/thumbnail/${image}?width=32&height=32`, { as: alice })
        )
        assert.deepStrictEqual([thumbnail.status, thumbnail.headers.get("content-type")], [200, "image/png"])
        assert.isEmpty(one.incoming())
        assert.isEmpty(two.incoming())
      }).pipe(Effect.provide(TestDatabase.layer), Effect.scoped),
    120_000
  )

  it.live(
    "a bucket that does not exist and a wrong secret are found before they are needed",
    () =>
      Effect.gen(function* () {
        const { s3 } = yield* s3Store
        assert.isUndefined(yield* checkStore(s3))
        const absent = yield* checkStore({ ...s3, bucket: "absent" })
        assert.match(absent?.reason ?? "", /NoSuchBucket/)
        const wrong = yield* checkStore({ ...s3, secretAccessKey: Redacted.make("wrong") })
        assert.match(wrong?.reason ?? "", /SignatureDoesNotMatch/)
        assert.deepStrictEqual([absent?.isCertain, wrong?.isCertain], [true, true])
      }).pipe(Effect.scoped),
    120_000
  )
})

it.live("a server that starts while its store of files is away says so in one line", () =>
  Effect.gen(function* () {
    const lines = yield* Queue.unbounded<string>()
    const logger = Logger.make(({ logLevel, message }) => Queue.offerUnsafe(lines, `${logLevel} ${String(message)}`))
    const s3: S3Options = {
      endpoint: "http://127.0.0.1:1",
      region: "us-east-1",
      bucket: "greenroom",
      accessKeyId: "green",
      secretAccessKey: Redacted.make("secret")
    }
    yield* Layer.build(Layer.provide(checkAtStart(s3), Logger.layer([logger])))
    assert.match(
      yield* Queue.take(lines),
      /^Error media\.s3: the bucket greenroom of http:\/\/127\.0\.0\.1:1 cannot be used, .*ECONNREFUSED.*$/
    )
  }).pipe(Effect.scoped)
)
