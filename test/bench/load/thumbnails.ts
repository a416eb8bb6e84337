/** Requests thumbnails that do not exist yet, one after the other. Returns how many were made. */
import { serveLoad } from "../LoadProcess.ts"

export interface ThumbnailsInput {
  readonly url: string
  readonly token: string
  /** Images: their content URIs without `mxc://`. */
  readonly photos: ReadonlyArray<string>
  readonly seconds: number
}

const queries = [96, 160, 320, 480, 640, 800].flatMap((width) =>
  ["crop", "scale"].map((method) => `width=${width}&height=${width}&method=${method}`)
)

serveLoad(async ({ photos, seconds, token, url }: ThumbnailsInput): Promise<number> => {
  const headers = { authorization: `Bearer ${token}` }
  const end = performance.now() + seconds * 1_000
  let made = 0
  for (const query of queries) {
    for (const photo of photos) {
      if (performance.now() >= end) return made
      const got = await fetch(`${url}/_matrix/client/v1/media/thumbnail/${photo}?${query}`, { headers })
      if (got.status !== 200) throw new Error(`A thumbnail was answered with ${got.status}: ${await got.text()}`)
      await got.arrayBuffer()
      made++
    }
  }
  throw new Error("There were too few photos")
})
