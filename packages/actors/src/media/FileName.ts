/**
 * File names from uploaders, made safe for a header and for the disk of the reader.
 */

/** Control characters, and those that change the direction of text or cannot be seen. */
const unfit = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const maxBytes = 255

/** Cuts a name to so many bytes of UTF-8, at a character boundary. The extension is kept. */
const shorten = (name: string): string => {
  const characters = [...name]
  const dot = characters.lastIndexOf(".")
  const extension = dot > 0 && characters.length - dot <= 16 ? characters.splice(dot).join("") : ""
  while (Buffer.byteLength(characters.join("")) + Buffer.byteLength(extension) > maxBytes) {
    characters.length = Math.min(characters.length - 1, maxBytes)
  }
  return characters.join("") + extension
}

/** The last part of a path, without what misleads; undefined if nothing is left. */
export const safeFileName = (name: string | undefined): string | undefined => {
  if (name === undefined) return undefined
  const last = name.toWellFormed().replace(unfit, "").split(/[/\\]/).at(-1)!.trim().replace(/^\.+/, "")
  return last === "" ? undefined : shorten(last)
}

const isPlain = /^[\x20-\x7e]*$/

/** The value of `Content-Disposition`. */
export const contentDisposition = (inline: boolean, fileName: string | undefined): string => {
  const kind = inline ? "inline" : "attachment"
  if (fileName === undefined) return kind
  if (isPlain.test(fileName)) {
    return /^[A-Za-z0-9!#$&+.^_`|~-]+$/.test(fileName)
      ? `${kind}; filename=${fileName}`
      : `${kind}; filename="${fileName.replace(/["\\]/g, "\\$&")}"`
  }
  const encoded = encodeURIComponent(fileName).replace(
    /['()*!]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`
  )
  return `${kind}; filename*=utf-8''${encoded}`
}

const decodePercent = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Headers are read as Latin-1; many write UTF-8 into them. */
const asUtf8 = (text: string | undefined): string | undefined => {
  if (text === undefined) return undefined
  const decoded = Buffer.from(text, "latin1").toString("utf8")
  return decoded.includes("\ufffd") ? text : decoded
}

/** The file name in a `Content-Disposition` (RFC 6266); undefined if there is none. */
export const fileNameOf = (disposition: string | undefined): string | undefined => {
  if (disposition === undefined || disposition.length > 8_192) return undefined
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)/i.exec(disposition)?.[1]
  const decoded = extended === undefined ? undefined : decodePercent(extended)
  if (decoded !== undefined) return decoded
  const [, quoted, plain] = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))/i.exec(disposition) ?? []
  return asUtf8(quoted?.replace(/\\(.)/g, "$1") ?? plain)
}
