import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { Readable } from "node:stream"
import { assert, layer } from "@effect/vitest"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { type MediaName, MediaStore } from "@greenroom/store/MediaStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import * as HomeServer from "../../src/HomeServer.ts"
import { Media } from "../../src/media/Media.ts"
import { MediaKeeping, parseMxc } from "../../src/media/MediaKeeping.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { errcodeOf, guest, serverName } from "../TestHomeServer.ts"

const directory = mkdtempSync(path.join(tmpdir(), "greenroom-keeping-"))

const services = HomeServer.layerOnDatabase({
  serverName,
  dataDir: directory,
  media: { quotaBytes: 1_000, localRetentionDays: 3, remoteCacheBytes: 250 }
}).pipe(
  Layer.provideMerge(TestDatabase.layer),
  Layer.provideMerge(
    Layer.effectDiscard(
      Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true, force: true })))
    )
  )
)

const upload = (session: Session, text: string) =>
  Media.use((media) =>
    media.upload(session, {
      body: Readable.from([Buffer.from(text)], { objectMode: false }),
      length: text.length,
      contentType: "text/plain",
      fileName: undefined
    })
  )

const request = { authenticated: true, timeout: 0 }

const stored = () =>
  readdirSync(path.join(directory, "media", "content"), { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile()
  ).length

/** Advances the clock, and waits until the sweeps that this starts have made the condition true. */
const pass = Effect.fnUntraced(function* (hours: number, isTrue: Effect.Effect<boolean, never, MediaStore | Media>) {
  yield* TestClock.adjust(`${hours} hours`)
  while (!(yield* isTrue)) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
})

/** Whether a content ID is forgotten. Asking does not count as a use. */
const isGone = (name: MediaName) =>
  MediaStore.use((store) => Effect.map(store.find(name), (found) => found._tag === "None"))

layer(services)("keeping files", (it) => {
  it.effect("all uploads of a user are listed, also those of the same millisecond", () =>
    Effect.gen(function* () {
      const keeping = yield* MediaKeeping
      const alice = guest("list-alice")
      const texts = Array.from({ length: 130 }, (_, index) => `${index}`)
      const names = yield* Effect.forEach(texts, (text) => upload(alice, text))
      const first = yield* keeping.uploadsOf(alice.userId)
      const others = yield* keeping.uploadsOf(alice.userId, first.at(-1))
      assert.strictEqual(first.length, 100)
      assert.sameMembers(
        [...first, ...others].map(({ mediaId }) => mediaId),
        names.map(({ mediaId }) => mediaId)
      )
    })
  )

  it.effect("quarantined content is not served, also when it is uploaded again", () =>
    Effect.gen(function* () {
      const media = yield* Media
      const keeping = yield* MediaKeeping
      const alice = guest("quarantine-alice")
      const bob = guest("quarantine-bob")
      const [first, second] = [yield* upload(alice, "bad"), yield* upload(bob, "bad")]
      const other = yield* upload(bob, "good")
      yield* keeping.quarantine(first, "@admin:green.test")
      const third = yield* upload(bob, "bad")
      const store = yield* MediaStore
      const { content } = Option.getOrThrow(yield* store.find(first))
      const fetched = { origin: ServerName.make("blue.test"), mediaId: "same" }
      yield* store.putRemote(fetched, content!, true)
      const reserved = { ...first, mediaId: "reserved", userId: bob.userId, authenticated: true }
      yield* store.reserve(reserved, Number.MAX_SAFE_INTEGER, 10)
      yield* store.complete({ ...reserved, content: content!, quota: { bytes: 1_000, files: 10 } })
      for (const name of [first, second, third, fetched, reserved])
        assert.strictEqual(yield* errcodeOf(media.find(name, request)), "M_NOT_FOUND")
      assert.strictEqual((yield* media.find(other, request)).size, 4)
      yield* keeping.release(second)
      for (const name of [first, second, third]) assert.strictEqual((yield* media.find(name, request)).size, 3)
      const remote = yield* parseMxc("mxc://red.test/abc")
      yield* keeping.quarantine(remote, "somebody")
      assert.strictEqual(yield* errcodeOf(media.find(remote, request)), "M_NOT_FOUND")
      assert.strictEqual(yield* errcodeOf(keeping.quarantine({ ...first, mediaId: "none" }, "x")), "M_NOT_FOUND")
      assert.strictEqual(yield* errcodeOf(parseMxc("mxc://red.test/../x")), "M_UNKNOWN")
    })
  )

  it.effect("a protected content ID is served while others of the same content are quarantined", () =>
    Effect.gen(function* () {
      const media = yield* Media
      const keeping = yield* MediaKeeping
      const alice = guest("protect-alice")
      const [kept, other] = [yield* upload(alice, "logo"), yield* upload(alice, "logo")]
      yield* keeping.protect(kept, true)
      yield* keeping.quarantine(other, "@admin:green.test")
      assert.strictEqual((yield* media.find(kept, request)).size, 4)
      assert.strictEqual(yield* errcodeOf(media.find(other, request)), "M_NOT_FOUND")
    })
  )

  it.effect("a removed file is not served, its bytes are deleted, and the quota has room again", () =>
    Effect.gen(function* () {
      const media = yield* Media
      const keeping = yield* MediaKeeping
      const alice = guest("remove-alice")
      const large = yield* upload(alice, "x".repeat(900))
      const small = yield* upload(alice, "kept")
      assert.strictEqual(yield* errcodeOf(upload(alice, "y".repeat(200))), "M_FORBIDDEN")
      yield* keeping.remove(large)
      assert.strictEqual(yield* errcodeOf(media.find(large, request)), "M_NOT_FOUND")
      assert.deepStrictEqual(yield* keeping.usageOf(alice.userId), { bytes: 4, files: 1 })
      yield* upload(alice, "y".repeat(200))
      const before = stored()
      yield* pass(
        2,
        Effect.sync(() => stored() < before)
      )
      assert.strictEqual(stored(), before - 1)
      assert.strictEqual((yield* media.find(small, request)).size, 4)
      assert.strictEqual((yield* keeping.uploadsOf(alice.userId)).length, 2)
      assert.strictEqual(yield* keeping.removeAllOf(alice.userId), 2)
      assert.deepStrictEqual(yield* keeping.usageOf(alice.userId), { bytes: 0, files: 0 })
      assert.strictEqual(yield* errcodeOf(keeping.remove(small)), "M_NOT_FOUND")
    })
  )

  it.effect("content IDs that are not used expire", () =>
    Effect.gen(function* () {
      const media = yield* Media
      const alice = guest("expire-alice")
      const store = yield* MediaStore
      const name = { origin: serverName, mediaId: "expires" }
      const expiresAt = (yield* Clock.currentTimeMillis) + 3_600_000
      yield* store.reserve({ ...name, userId: alice.userId, authenticated: false }, expiresAt, 10)
      assert.strictEqual(yield* errcodeOf(media.find(name, request)), "M_NOT_YET_UPLOADED")
      yield* pass(2, isGone(name))
      const late = media.uploadTo(alice, name, {
        body: Readable.from([Buffer.from("late")], { objectMode: false }),
        length: 4,
        contentType: undefined,
        fileName: undefined
      })
      assert.strictEqual(yield* errcodeOf(late), "M_NOT_FOUND")
    })
  )

  it.effect("content IDs that have expired get no content, and leave room for others, before they are swept", () =>
    Effect.gen(function* () {
      const store = yield* MediaStore
      const { userId } = guest("unswept-alice")
      const now = yield* Clock.currentTimeMillis
      const reserve = (mediaId: string, expiresAt: number) =>
        store.reserve({ origin: serverName, mediaId, userId, authenticated: false }, expiresAt, 1)
      const day = 86_400_000
      assert.isTrue(yield* reserve("unswept", now))
      // One from a time when the clock was ahead.
      assert.isTrue(yield* reserve("unswept-ahead", now + 10 * day))
      assert.isTrue(yield* reserve("unswept-next", now + day))
      assert.isFalse(yield* reserve("unswept-last", now + day))
      const sha256 = new Uint8Array(32).fill(7)
      yield* store.touch(sha256, 1)
      const late = yield* store.complete({
        ...{ origin: serverName, mediaId: "unswept", userId, authenticated: false },
        content: { sha256, size: 1, contentType: undefined, detectedType: undefined, fileName: undefined },
        quota: { bytes: 1_000, files: 10 }
      })
      assert.strictEqual(late, "no-such-id")
    })
  )

  it.effect("removes content that has not been downloaded for longer than the retention, and keeps the rest", () =>
    Effect.gen(function* () {
      const media = yield* Media
      const alice = guest("retention-alice")
      const [used, unused] = [yield* upload(alice, "used"), yield* upload(alice, "unused")]
      const store = yield* MediaStore
      const fourDaysAgo = (yield* Clock.currentTimeMillis) - 4 * 86_400_000
      for (const name of [used, unused]) yield* store.used(name, fourDaysAgo)
      yield* media.find(used, request)
      yield* pass(1, isGone(unused))
      assert.strictEqual((yield* media.find(used, request)).size, 4)
    })
  )

  it.effect("content of other servers stays within its bound: the least recently used is removed", () =>
    Effect.gen(function* () {
      const store = yield* MediaStore
      const origin = ServerName.make("red.test")
      for (const number of [1, 2, 3, 4, 5]) {
        const sha256 = new Uint8Array(32).fill(number)
        yield* store.touch(sha256, 100)
        const content = { sha256, size: 100, contentType: undefined, detectedType: undefined, fileName: undefined }
        yield* store.putRemote({ origin, mediaId: `remote${number}` }, content, false)
        yield* TestClock.adjust("1 second")
      }
      const left = Effect.gen(function* () {
        const store = yield* MediaStore
        const found = yield* Effect.forEach([1, 2, 3, 4, 5], (number) =>
          store.find({ origin, mediaId: `remote${number}` })
        )
        return found.map((row) => row._tag === "Some")
      })
      yield* pass(
        1,
        Effect.map(left, (found) => found.filter((there) => there).length === 2)
      )
      assert.deepStrictEqual(yield* left, [false, false, false, true, true])
    })
  )

  it.effect("thumbnails stay within their limit in bytes: the oldest are removed with their files", () =>
    Effect.gen(function* () {
      const store = yield* MediaStore
      const image = new Uint8Array(32).fill(100)
      yield* store.touch(image, 100)
      // Content that no content ID names is removed by the same sweep, and its thumbnails with it.
      const content = { sha256: image, size: 100, contentType: undefined, detectedType: undefined, fileName: undefined }
      yield* store.putRemote({ origin: ServerName.make("red.test"), mediaId: "image" }, content, false)
      const variants = ["32x32 crop", "64x64 crop", "96x96 crop", "160x160 crop"]
      for (const [index, variant] of variants.entries()) {
        const sha256 = new Uint8Array(32).fill(101 + index)
        yield* store.touch(sha256, 100)
        yield* store.addThumbnail(image, variant, { sha256, size: 100, contentType: "image/png" })
        yield* TestClock.adjust("1 second")
      }
      const left = Effect.forEach(variants, (variant) =>
        Effect.map(store.thumbnail(image, variant), (found) => found._tag === "Some")
      )
      yield* pass(
        1,
        Effect.map(left, (found) => found.filter((there) => there).length === 2)
      )
      assert.deepStrictEqual(yield* left, [false, false, true, true])
      yield* store.removeUnused(Number.MAX_SAFE_INTEGER, 1_000, () => Effect.void)
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT FROM media_thumbnails JOIN media_blobs USING (sha256)`, 2)
    })
  )

  it.effect("content of other servers is bounded in number too", () =>
    Effect.gen(function* () {
      const store = yield* MediaStore
      const origin = ServerName.make("many.test")
      const sha256 = new Uint8Array(32).fill(120)
      yield* store.touch(sha256, 1)
      const content = { sha256, size: 1, contentType: undefined, detectedType: undefined, fileName: undefined }
      for (let n = 0; n < 5; n++) {
        yield* TestClock.adjust("1 second")
        yield* store.putRemote({ origin, mediaId: `tiny${n}` }, content, false)
      }
      while ((yield* store.trimRemote({ bytes: 1_000_000, files: 2 }, 1)) > 0) yield* Effect.void
      const found = yield* Effect.forEach([0, 1, 2, 3, 4], (n) => isGone({ origin, mediaId: `tiny${n}` }))
      assert.deepStrictEqual(found, [true, true, true, false, false])
    })
  )
})
