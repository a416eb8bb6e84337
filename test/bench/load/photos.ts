/** Uploads a photo `count` times, each with other bytes after the end of the image. Returns the content URIs without `mxc://`. */
import * as fs from "node:fs/promises"
import { serveLoad } from "../LoadProcess.ts"

export interface PhotosInput {
  readonly url: string
  readonly token: string
  /** A file with an image. */
  readonly photo: string
  readonly count: number
}

serveLoad(async ({ count, photo, token, url }: PhotosInput): Promise<ReadonlyArray<string>> => {
  const original = await fs.readFile(photo)
  const photos: Array<string> = []
  for (let index = 0; index < count; index++) {
    const body = Buffer.concat([original, Buffer.from(String(index))])
    const headers = { authorization: `Bearer ${token}` }
    const sent = await fetch(`${url}/_matrix/media/v3/upload`, { method: "POST", headers, body })
    const { content_uri } = (await sent.json()) as { readonly content_uri: string }
    photos.push(content_uri.replace("mxc://", ""))
  }
  return photos
})
