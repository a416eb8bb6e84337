/**
 * Files: uploads and downloads of 100 MB against the file system alone, with the memory that they take; thumbnails a second,
 * and what they cost those who send meanwhile.
 */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { atLeast, atMost, type Benchmark, count, type Figure, milliseconds, ofBaseline, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { FileTransferInput, FileTransfers } from "./load/fileTransfers.ts"
import type { PacedSendsInput } from "./load/pacedSends.ts"
import type { PhotosInput } from "./load/photos.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { ThumbnailsInput } from "./load/thumbnails.ts"
import { median, type Percentiles } from "./Percentiles.ts"
import { removeDirectory, residentMemory, startServer, temporaryDirectory } from "./Server.ts"

const megabyte = 1024 * 1024

const speed = (bytes: number, ms: number): number => bytes / megabyte / (ms / 1_000)

const speedText = (value: number): string => `${count(value)} MB/s`

/** Writes a file and syncs it, and reads it: MB/s of each. */
const bareFiles = async (bytes: number): Promise<{ readonly write: number; readonly read: number }> => {
  const directory = await temporaryDirectory()
  const file = path.join(directory, "file")
  const chunk = randomBytes(64 * 1024)
  const begin = performance.now()
  const handle = await fs.open(file, "w")
  for (let written = 0; written < bytes; written += chunk.length) await handle.write(chunk)
  await handle.sync()
  await handle.close()
  const written = performance.now()
  const reader = await fs.open(file, "r")
  for await (const _ of reader.createReadStream({ highWaterMark: 256 * 1024 })) {
    // Read through.
  }
  const read = performance.now()
  await removeDirectory(directory)
  return { write: speed(bytes, written - begin), read: speed(bytes, read - written) }
}

/** Calls `end` when `work` has ended: the largest memory meanwhile, in MB over that before. */
const memoryDuring = async <A>(pid: number, work: Promise<A>): Promise<readonly [result: A, added: number]> => {
  const before = residentMemory(pid)
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, residentMemory(pid))
  }, 50)
  try {
    return [await work, (most - before) / 1024]
  } finally {
    clearInterval(timer)
  }
}

const measureTransfers = async (bytes: number, rounds: number): Promise<ReadonlyArray<Figure>> => {
  const settings = { GREENROOM_MEDIA_MAX_UPLOAD_BYTES: String(bytes), GREENROOM_MEDIA_QUOTA_BYTES: String(1e12) }
  await using server = await startServer({ environment: settings })
  const { pid, url } = server
  const { tokens } = await runLoad<SendersInput, Senders>("senders", { url, senders: 1 })
  const bare = await bareFiles(bytes)
  const transfer = runLoad<FileTransferInput, FileTransfers>("fileTransfers", { url, token: tokens[0]!, bytes, rounds })
  const [{ downloads, uploads }, added] = await memoryDuring(pid, transfer)
  const [up, down] = [speed(bytes, median(uploads)), speed(bytes, median(downloads))]
  const size = `${count(bytes / megabyte)} MB`
  return [
    {
      what: `upload of ${size}`,
      value: speedText(up),
      baseline: speedText(bare.write),
      ratio: ofBaseline(up / bare.write)
    },
    {
      what: `download of ${size}`,
      value: speedText(down),
      baseline: speedText(bare.read),
      ratio: ofBaseline(down / bare.read)
    },
    { what: "  memory meanwhile", value: `${count(added)} MB`, baseline: "-", target: atMost(added, 64, " MB") }
  ]
}

/** How many photos thumbnails are made of. */
const photoCount = 30

/** A photo as telephones make them: 12 megapixels, JPEG. */
const takePhoto = async (file: string): Promise<string> => {
  const { default: sharp } = await import("sharp")
  const noise = { type: "gaussian", mean: 128, sigma: 30 } as const
  const photo = sharp({ create: { width: 4_000, height: 3_000, channels: 3, background: "teal", noise } })
  await photo.jpeg({ quality: 85 }).toFile(file)
  return file
}

const measureThumbnails = async (seconds: number, senders: number): Promise<ReadonlyArray<Figure>> => {
  await using server = await startServer()
  const { url } = server
  const prepared = await runLoad<SendersInput, Senders>("senders", { url, senders })
  // 100 sends a second.
  const interval = senders * 10
  const send = (run: string) =>
    runLoad<PacedSendsInput, Percentiles>("pacedSends", { url, ...prepared, seconds, interval, run })
  const photo = await takePhoto(path.join(server.dataDir, "photo.jpg"))
  const token = prepared.tokens[0]!
  // Uploads take the disk, which is not what is measured.
  const photos = await runLoad<PhotosInput, ReadonlyArray<string>>("photos", { url, token, photo, count: photoCount })
  const without = await send("without")
  const [during, made] = await Promise.all([
    send("with"),
    runLoad<ThumbnailsInput, number>("thumbnails", { url, token, photos, seconds: seconds + 1 })
  ])
  const factor = during.p99 / without.p99
  const perSecond = made / (seconds + 1)
  return [
    {
      what: "thumbnails of photos of 12 megapixels",
      value: `${perSecond.toFixed(1)}/s`,
      baseline: "-",
      target: atLeast(perSecond, 1)
    },
    {
      what: "  a send meanwhile, p99",
      value: milliseconds(during.p99),
      baseline: milliseconds(without.p99),
      ratio: times(factor),
      target: atMost(factor, 2, " times")
    }
  ]
}

export const files: Benchmark = {
  name: "files",
  measures: "uploads, downloads and thumbnails; baseline: the file system alone, and sends without thumbnails",
  run: async ({ quick }) => [
    ...(await measureTransfers((quick ? 4 : 100) * megabyte, quick ? 1 : 5)),
    ...(await measureThumbnails(quick ? 1 : 15, quick ? 4 : 16))
  ]
}
