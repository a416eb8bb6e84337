/**
 * The width and height of an image, read from its header without decoding it: previews of pages state them, so that clients keep
 * room for the image before it arrives.
 */
import * as fs from "node:fs/promises"

interface ImageSize {
  readonly width: number
  readonly height: number
}

/** As much of a file as is read. The header of a JPEG file comes after its metadata, such as a small picture and a colour profile. */
const maxHeaderBytes = 256 * 1024

const ofPng = (bytes: Buffer): ImageSize => ({ width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) })

const ofGif = (bytes: Buffer): ImageSize => ({ width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) })

const ofWebp = (bytes: Buffer): ImageSize | undefined => {
  switch (bytes.toString("latin1", 12, 16)) {
    case "VP8X":
      return { width: 1 + bytes.readUIntLE(24, 3), height: 1 + bytes.readUIntLE(27, 3) }
    case "VP8L": {
      const packed = bytes.readUInt32LE(21)
      return { width: 1 + (packed & 0x3fff), height: 1 + ((packed >>> 14) & 0x3fff) }
    }
    case "VP8 ":
      return { width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff }
    default:
      return undefined
  }
}

/** Whether a marker begins a frame: SOF0 to SOF15 without the tables DHT, JPG and DAC among them. */
const isFrame = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc

const ofJpeg = (bytes: Buffer): ImageSize | undefined => {
  for (let at = 2; at + 9 <= bytes.length && bytes[at] === 0xff; at += 2 + bytes.readUInt16BE(at + 2)) {
    if (isFrame(bytes[at + 1]!)) return { width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) }
  }
  return undefined
}

const readers: { readonly [type: string]: (bytes: Buffer) => ImageSize | undefined } = {
  "image/png": ofPng,
  "image/apng": ofPng,
  "image/gif": ofGif,
  "image/webp": ofWebp,
  "image/jpeg": ofJpeg
}

/** Undefined for other types, and for a header that is not whole. */
export const imageSize = (type: string, bytes: Buffer): ImageSize | undefined => {
  try {
    const size = readers[type]?.(bytes)
    return size !== undefined && size.width > 0 && size.height > 0 ? size : undefined
  } catch {
    return undefined
  }
}

/** The same of a file. */
export const imageSizeOfFile = async (type: string, path: string): Promise<ImageSize | undefined> => {
  const file = await fs.open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(maxHeaderBytes), 0, maxHeaderBytes, 0)
    return imageSize(type, buffer.subarray(0, bytesRead))
  } finally {
    await file.close()
  }
}
