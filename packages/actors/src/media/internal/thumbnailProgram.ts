/**
 * The program that makes thumbnails (`ThumbnailProcess.ts`): it reads and writes the files that each job names, one job after
 * the other, after everything else on the machine. It decodes what people upload, so it takes the formats that are needed
 * and no others; above all none that is a document, such as SVG.
 */
import { constants, setPriority } from "node:os"
import sharp from "sharp"
import type { ThumbnailJob, ThumbnailResult } from "./ThumbnailProcess.ts"

/** The most pixels of an image, and of all frames of an animation that stays one. */
const maxPixels = 120_000_000
const maxAnimatedPixels = 40_000_000

/** Seconds that libvips may take for one image. */
const maxSeconds = 15

setPriority(constants.priority.PRIORITY_LOW)
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
    .timeout({ seconds: maxSeconds })
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

process.on("message", (job: ThumbnailJob) => {
  make(job).then(
    (result) => process.send?.(result),
    () => process.send?.({ problem: "no-image" } satisfies ThumbnailResult)
  )
})
process.on("disconnect", () => process.exit())
