/** Uploads a file and downloads it again, `rounds` times. Times are in ms. */
import { randomBytes } from "node:crypto"
import { request } from "node:http"
import { pipeline } from "node:stream/promises"
import { serveLoad } from "../LoadProcess.ts"

export interface FileTransferInput {
  readonly url: string
  readonly token: string
  readonly bytes: number
  readonly rounds: number
}

export interface FileTransfers {
  readonly uploads: ReadonlyArray<number>
  readonly downloads: ReadonlyArray<number>
}

const chunkBytes = 64 * 1024

/** Random bytes, another file in each round. */
function* content(bytes: number): Generator<Buffer> {
  const chunk = randomBytes(chunkBytes)
  for (let sent = 0; sent < bytes; sent += chunkBytes) {
    chunk.writeUInt32LE(sent / chunkBytes)
    yield Buffer.from(chunk.subarray(0, Math.min(chunkBytes, bytes - sent)))
  }
}

const upload = ({ bytes, token, url }: FileTransferInput): Promise<string> =>
  new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, "content-length": bytes, "content-type": "video/mp4" }
    const outgoing = request(`${url}/_matrix/media/v3/upload`, { method: "POST", headers }, (response) => {
      let text = ""
      response.on("data", (part: Buffer) => {
        text += part.toString()
      })
      response.on("end", () => {
        const { content_uri } = JSON.parse(text) as { readonly content_uri?: string }
        if (content_uri === undefined) reject(new Error(`An upload was answered with ${text}`))
        else resolve(content_uri.replace("mxc://", ""))
      })
    })
    pipeline(content(bytes), outgoing).catch(reject)
  })

const download = ({ bytes, token, url }: FileTransferInput, file: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` }
    request(`${url}/_matrix/client/v1/media/download/${file}`, { headers }, (response) => {
      let size = 0
      response.on("data", (part: Buffer) => {
        size += part.length
      })
      response.on("end", () => (size === bytes ? resolve() : reject(new Error(`A download had ${size} bytes`))))
      response.on("error", reject)
    })
      .on("error", reject)
      .end()
  })

serveLoad(async (input: FileTransferInput): Promise<FileTransfers> => {
  const uploads: Array<number> = []
  const downloads: Array<number> = []
  for (let round = 0; round < input.rounds; round++) {
    const begin = performance.now()
    const file = await upload(input)
    const uploaded = performance.now()
    await download(input, file)
    uploads.push(uploaded - begin)
    downloads.push(performance.now() - uploaded)
  }
  return { uploads, downloads }
})
