/**
 * Memory of chunks of files, freed when the chunk was used. V8 lets up to 64 MB of used buffers wait for a collection: a transfer of a
 * large file would take that much.
 */

/**
 * Frees the memory of a chunk that nobody else uses; it is empty afterwards. A chunk that shares its memory with others, such as a slice of
 * a pool, is left as it is.
 */
export const freeBuffer = ({ buffer, byteLength }: Uint8Array): void => {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
