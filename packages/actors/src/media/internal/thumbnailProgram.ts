/**
 * The program that makes thumbnails (`ThumbnailProcess.ts`): it reads and writes the files that each job names, one job after
 * the other, after everything else on the machine. It decodes what people upload, so it takes the formats that are needed
 * and no others; above all none that is a document, such as SVG.
 */
import { readdirSync } from "node:fs"
import { constants, setPriority } from "node:os"
import sharp from "sharp"
import type { ThumbnailJob, ThumbnailResult } from "./ThumbnailProcess.ts"

/** The most pixels of an image, and of all frames of an animation that stays one. */
const maxPixels = 120_000_000
const maxAnimatedPixels = 40_000_000

/** How much processor time one image may cost, in ms: on a busy machine it takes longer than it costs. */
const maxProcessorTime = 15_000

/**
 * How much memory this process may take, in bytes. Pixels do not bound it: some formats are decoded as a whole, in up to 18 bytes a pixel
 * (AVIF), and one kilobyte can describe all of them.
 */
const maxMemory = 512 * 1024 * 1024

/** How often both are checked, in ms: memory grows by about a megabyte in one. */
const watchInterval = 50

/** Linux has a priority for each thread; those that read the modules of this program, and make thumbnails, are there already. */
const threads = (): ReadonlyArray<number> => {
  try {
    return readdirSync("/proc/self/task").map(Number)
  } catch {
    return []
  }
}
for (const id of [process.pid, ...threads()]) setPriority(id, constants.priority.PRIORITY_LOW)
sharp.concurrency(1)
sharp.cache(false)
sharp.block({ operation: ["VipsForeignLoad"] })
sharp.unblock({
  operation: [
    "VipsForeignLoadJpegFile",
    "VipsForeignLoadPngFile",
    "VipsForeignLoadWebpFile",
    "VipsForeignLoadNsgifFile",
    "VipsForeignLoadHeifFile"
  ]
})

const make = async (job: ThumbnailJob): Promise<ThumbnailResult> => {
  const { format, hasAlpha, height, pages = 1, width } = await sharp(job.input, { limitInputPixels: false }).metadata()
  if (width * height > maxPixels) return { problem: "too-large" }
  const animated = job.animated && pages > 1 && width * height * pages <= maxAnimatedPixels
  const image = sharp(job.input, { animated, limitInputPixels: maxPixels, failOn: "error" })
    .autoOrient()
    .resize({
      width: job.width,
      height: job.height,
      fit: job.method === "crop" ? "cover" : "inside",
      withoutEnlargement: true
    })
  const [encoded, contentType] = animated
    ? [image.webp({ quality: 70, effort: 2 }), "image/webp"]
    : format === "png" || hasAlpha
      ? [image.png({ compressionLevel: 7 }), "image/png"]
      : [image.jpeg({ quality: 82 }), "image/jpeg"]
  await encoded.toFile(job.output)
  return { contentType }
}

const answer = (result: ThumbnailResult) => process.send?.(result)

/** Gives up a job that costs too much. The server ends the process then: libvips itself cannot be interrupted everywhere. */
const watchCosts = (): NodeJS.Timeout => {
  const before = process.cpuUsage()
  return setInterval(() => {
    const { system, user } = process.cpuUsage(before)
    if (user + system > maxProcessorTime * 1_000) answer({ problem: "too-slow" })
    if (process.memoryUsage.rss() > maxMemory) answer({ problem: "too-much-memory" })
  }, watchInterval)
}

process.on("message", (job: ThumbnailJob) => {
  const watch = watchCosts()
  make(job)
    .then(answer, () => answer({ problem: "no-image" }))
    .finally(() => clearInterval(watch))
})
process.on("disconnect", () => process.exit())
