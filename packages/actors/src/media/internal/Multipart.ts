/**
 * Reading `multipart/mixed` with two parts as a stream, as home servers send each other files: a JSON object without a
 * meaning so far, and the file, or where it is.
 *
 * Source: "Content Repository" of the server-server specification; RFC 2046, 5.1.
 */

/** The headers of a part, by their names in small letters. */
type PartHeaders = ReadonlyMap<string, string>

interface FilePart {
  readonly headers: PartHeaders
  /** The bytes of the part. Fails if the body ends before the part. */
  readonly body: AsyncGenerator<Buffer, void>
}

/** It is not what home servers send. */
class MalformedMultipart extends Error {}

const maxHeaderBytes = 16 * 1024
const maxMetadataBytes = 64 * 1024

/** The boundary of a `Content-Type`; undefined if there is none. */
export const boundaryOf = (contentType: string | undefined): string | undefined => {
  const found = /^multipart\/mixed\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType ?? "")
  return found?.[1] ?? found?.[2]
}

/** Reads a stream up to delimiters. */
class Reader {
  private buffer: Buffer = Buffer.alloc(0)
  private readonly source: AsyncIterator<Buffer>

  constructor(source: AsyncIterable<Buffer>) {
    this.source = source[Symbol.asyncIterator]()
  }

  private async more(): Promise<void> {
    const { done, value } = await this.source.next()
    if (done === true) throw new MalformedMultipart("the body ends too early")
    this.buffer = this.buffer.length === 0 ? value : Buffer.concat([this.buffer, value])
  }

  /** Everything before the delimiter, at most `maxBytes`. The delimiter is consumed. */
  async until(delimiter: Buffer, maxBytes: number): Promise<Buffer> {
    for (;;) {
      const at = this.buffer.indexOf(delimiter)
      if (at > maxBytes || (at === -1 && this.buffer.length > maxBytes + delimiter.length)) {
        throw new MalformedMultipart("a part that should be short is long")
      }
      if (at !== -1) {
        const before = this.buffer.subarray(0, at)
        this.buffer = this.buffer.subarray(at + delimiter.length)
        return before
      }
      await this.more()
    }
  }

  /** Everything before the delimiter, as it comes. */
  async *streamUntil(delimiter: Buffer): AsyncGenerator<Buffer, void> {
    for (;;) {
      const at = this.buffer.indexOf(delimiter)
      // The end may be the beginning of the delimiter.
      const safe = at === -1 ? Math.max(0, this.buffer.length - delimiter.length + 1) : at
      const chunk = this.buffer.subarray(0, safe)
      this.buffer = this.buffer.subarray(safe)
      if (chunk.length > 0) yield chunk
      if (at !== -1) return
      await this.more()
    }
  }
}

const parseHeaders = (text: string): PartHeaders =>
  new Map(
    text.split("\r\n").flatMap((line): ReadonlyArray<readonly [string, string]> => {
      const colon = line.indexOf(":")
      return colon < 1 ? [] : [[line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()]]
    })
  )

const endOfHeaders = Buffer.from("\r\n\r\n")

/** The second part of a body with the boundary. Rejects with `MalformedMultipart`, or as the source does. */
export const readFilePart = async (source: AsyncIterable<Buffer>, boundary: string): Promise<FilePart> => {
  const reader = new Reader(source)
  const delimiter = Buffer.from(`\r\n--${boundary}`)
  await reader.until(delimiter.subarray(2), maxHeaderBytes)
  await reader.until(endOfHeaders, maxHeaderBytes)
  await reader.until(delimiter, maxMetadataBytes)
  const headers = parseHeaders((await reader.until(endOfHeaders, maxHeaderBytes)).toString("latin1"))
  return { headers, body: reader.streamUntil(delimiter) }
}
