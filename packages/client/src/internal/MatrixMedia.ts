/**
 * Files by today's client API.
 *
 * Source: "Content repository" of the client-server specification.
 */
import { InvalidParam } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpClientRequest } from "effect/http"
import type { MatrixTransport } from "./MatrixTransport.ts"
import type { ClientError } from "./Retry.ts"

/** How a file is uploaded. */
export interface MatrixUpload {
  /** `image/png`; default `application/octet-stream`. */
  readonly contentType?: string
  readonly fileName?: string
}

/** A downloaded file, whole. */
export interface MatrixFile {
  readonly bytes: Uint8Array
  readonly contentType: string
}

const mxc = /^mxc:\/\/([^/?#]+)\/([^/?#]+)$/

export const makeMatrixMedia = ({ fetch, once, repeatable }: MatrixTransport) => {
  const file = (path: string) =>
    repeatable(
      Effect.flatMap(fetch(HttpClientRequest.get(path)), (response) =>
        Effect.map(
          response.arrayBuffer,
          (buffer): MatrixFile => ({
            bytes: new Uint8Array(buffer),
            contentType: response.headers["content-type"] ?? "application/octet-stream"
          })
        )
      )
    )
  const at = (kind: string, uri: string, query = ""): Effect.Effect<MatrixFile, ClientError> => {
    const [, server, id] = mxc.exec(uri) ?? []
    return server === undefined || id === undefined
      ? Effect.fail(new InvalidParam({ error: `${JSON.stringify(uri)} is not an mxc:// URI` }))
      : file(`/_matrix/client/v1/media/${kind}/${encodeURIComponent(server)}/${encodeURIComponent(id)}${query}`)
  }
  return {
    /** Uploads a file, and returns its `mxc://` URI. Errors: M_TOO_LARGE, M_FORBIDDEN over the quota. */
    upload: (bytes: Uint8Array, { contentType = "application/octet-stream", fileName }: MatrixUpload = {}) =>
      once(
        HttpClientRequest.post("/_matrix/media/v3/upload").pipe(
          HttpClientRequest.setUrlParams(fileName === undefined ? {} : { filename: fileName }),
          HttpClientRequest.bodyUint8Array(bytes, contentType),
          fetch,
          Effect.flatMap(({ json }) => json),
          Effect.map((answer) => (answer as { readonly content_uri: string }).content_uri)
        )
      ),
    /** The file of an `mxc://` URI, whole. Errors: M_NOT_FOUND, M_NOT_YET_UPLOADED. */
    download: (uri: string) => at("download", uri),
    /**
     * A thumbnail of at least this size if the image is as large. Errors: M_NOT_FOUND, M_UNKNOWN if the file is no image.
     */
    thumbnail: (uri: string, width: number, height: number, method: "crop" | "scale" = "scale") =>
      at("thumbnail", uri, `?width=${width}&height=${height}&method=${method}`)
  }
}
