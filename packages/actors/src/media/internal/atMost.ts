/**
 * Streams of others, which end where they are longer than they may be.
 */
import { Transform } from "node:stream"

/** Passes bytes on, and fails after so many. */
export const atMost = (bytes: number): Transform => {
  let left = bytes
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      left -= chunk.length
      if (left < 0) done(new Error(`More than ${bytes} bytes arrived`))
      else done(null, chunk)
    }
  })
}
