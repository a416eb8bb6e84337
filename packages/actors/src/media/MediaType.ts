/**
 * The type of a file: from its uploader, from its first bytes, and as a browser may trust it.
 *
 * A file is shown in place (`inline`) where its uploader calls it one of the types that cannot run, and its bytes do not
 * look like a document that does. Everything else is for saving (`attachment`).
 *
 * Source: "Serving inline content" of the client-server specification.
 */
import { Effect } from "effect"

/** The types that may be shown in place. */
const inlineTypes: ReadonlySet<string> = new Set([
  "text/css",
  "text/plain",
  "text/csv",
  "application/json",
  "application/ld+json",
  "image/jpeg",
  "image/gif",
  "image/png",
  "image/apng",
  "image/webp",
  "image/avif",
  "video/mp4",
  "video/webm",
  "video/ogg",
  "video/quicktime",
  "audio/mp4",
  "audio/webm",
  "audio/aac",
  "audio/mpeg",
  "audio/ogg",
  "audio/wave",
  "audio/wav",
  "audio/x-wav",
  "audio/x-pn-wav",
  "audio/flac",
  "audio/x-flac"
])

/** Types that a browser executes, styles or follows. They are served as `application/octet-stream`. */
const active = /(html|xml|script|xsl|pdf|multipart\/|mixed-replace|shockwave|java|wasm)/

const wellFormed =
  /^[a-z0-9!#$&^_.+-]{1,100}\/[a-z0-9!#$&^_.+-]{1,100}(?:\s*;\s*[a-z0-9!#$&^_.+-]{1,50}=(?:[a-z0-9!#$&^_.+-]{1,100}|"[^"\\\r\n]{0,100}"))*$/i

const bytes = "application/octet-stream"

/** The type without its parameters, in small letters. */
const essenceOf = (type: string): string => type.split(";", 1)[0]!.trim().toLowerCase()

/** Content that browsers may sniff as markup: a `<` or `%PDF` after white space. */
const markup = "text/x-markup"

const decoder = new TextDecoder("latin1")

/** Text in UTF-16 or with a byte order mark is decoded as a browser decodes it. */
const looksActive = (head: Uint8Array): boolean => {
  const text = decoder
    .decode(head.subarray(0, 1_024))
    .replace(/^(?:ÿþ|þÿ|ï»¿)/, "")
    .replaceAll("\u0000", "")
  return /^\s*(?:<|%PDF-|%!PS)/.test(text)
}

/** The type that the first bytes of a file show; undefined if they show none. */
export const detectType = (head: Uint8Array): Effect.Effect<string | undefined> =>
  looksActive(head)
    ? Effect.succeed(markup)
    : Effect.promise(async () => {
        const { fileTypeFromBuffer } = await import("file-type")
        const found = await fileTypeFromBuffer(head).catch(() => undefined)
        return found === undefined ? undefined : active.test(found.mime) ? markup : found.mime
      })

/** The headers with which a file is served. */
export interface ServedType {
  readonly contentType: string
  readonly inline: boolean
}

/** Whether a type is that of an image which may be shown in place. */
export const isShownImage = (type: string): boolean => type.startsWith("image/") && inlineTypes.has(type)

const isMedia = (essence: string): boolean => /^(?:image|audio|video)\//.test(essence)

/** The headers for a file that is declared as `declared` and detected as `detected`. */
export const servedType = (declared: string | undefined, detected: string | undefined): ServedType => {
  const given = declared !== undefined && wellFormed.test(declared) ? declared : bytes
  const essence = essenceOf(given)
  if (active.test(essence) || detected === markup) {
    const contentType = active.test(essence) || isMedia(essence) ? bytes : given
    return { contentType, inline: false }
  }
  if (!isMedia(essence)) return { contentType: given, inline: inlineTypes.has(essence) }
  // A container may be called audio or video; the bytes tell no more than the container.
  const contentType = detected !== undefined && essence.startsWith("image/") ? detected : given
  return { contentType, inline: detected !== undefined && inlineTypes.has(essenceOf(contentType)) }
}
