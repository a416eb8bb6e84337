/** Uploads photos and asks for a thumbnail of each, one after the other: how many were made. */
import sharp from "sharp"
import { serveLoad } from "../LoadProcess.ts"

export interface ThumbnailsInput {
  readonly url: string
  readonly token: string
  readonly seconds: number
}

/** A photo as telephones make them: 12 megapixels, JPEG. */
const photo = sharp({
  create: {
    width: 4_000,
    height: 3_000,
    channels: 3,
    background: "teal",
    noise: { type: "gaussian", mean: 128, sigma: 30 }
  }
})
  .jpeg({ quality: 85 })
  .toBuffer()

serveLoad(async ({ seconds, token, url }: ThumbnailsInput): Promise<number> => {
  const headers = { authorization: `Bearer ${token}` }
  const original = await photo
  const end = performance.now() + seconds * 1_000
  let made = 0
  for (; performance.now() < end; made++) {
    // Bytes after the end of the image make it another file.
    const body = Buffer.concat([original, Buffer.from(String(made))])
    const sent = await fetch(`${url}/_matrix/media/v3/upload`, { method: "POST", headers, body })
    const { content_uri } = (await sent.json()) as { readonly content_uri: string }
    const target = content_uri.replace("mxc://", "")
    const got = await fetch(`${url}/_matrix/client/v1/media/thumbnail/${target}?width=320&height=240`, { headers })
    if (got.status !== 200) throw new Error(`A thumbnail was answered with ${got.status}: ${await got.text()}`)
    await got.arrayBuffer()
  }
  return made
})
