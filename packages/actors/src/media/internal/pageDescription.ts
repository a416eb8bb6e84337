/**
 * The description of a web page: its Open Graph properties, else its title and description. The page is read as a stream of
 * tags, and nothing of it is kept but a few texts of bounded length.
 *
 * Tags are read by themselves, without the elements that they make: a parser keeps a stack of the open elements, and searching
 * that of a hostile page for each tag takes minutes.
 */

import { setImmediate } from "node:timers/promises"

/** Properties of Open Graph by their names; `image` is the URL of the image as the page writes it. */
export interface Description {
  readonly image?: string
  readonly [property: `og:${string}`]: string | number
}

const maxTextLength = 1_000
const maxUrlLength = 4_096
/** How many characters of a page are read in one turn of the event loop. */
const sliceLength = 65_536

/** The properties that a preview contains. */
const properties: ReadonlySet<string> = new Set([
  "og:title",
  "og:description",
  "og:site_name",
  "og:type",
  "og:url",
  "og:locale",
  "og:image:alt",
  "og:image:width",
  "og:image:height"
])

const numbers: ReadonlySet<string> = new Set(["og:image:width", "og:image:height"])

const charsetOf = (bytes: Buffer, contentType: string): string => {
  const named = /charset\s*=\s*["']?([\w.:-]{1,40})/i
  return named.exec(contentType)?.[1] ?? named.exec(bytes.subarray(0, 2_048).toString("latin1"))?.[1] ?? "utf-8"
}

const decode = (bytes: Buffer, charset: string): string => {
  try {
    return new TextDecoder(charset).decode(bytes)
  } catch {
    return new TextDecoder().decode(bytes)
  }
}

/** Control characters, and those that change the direction of the text around them. */
const unfit = /[\p{Cc}\p{Bidi_Control}]/gu

/** A copy: a part of a string keeps the whole page in memory. */
const copy = (text: string): string => Buffer.from(text).toString()

const tidy = (text: string): string =>
  copy(text.replace(/\s+/g, " ").replace(unfit, "").trim().toWellFormed().slice(0, maxTextLength))

/** The texts of a page: the content of its `meta` elements by their names, and its title. */
const readTexts = async (
  page: string
): Promise<{ readonly found: ReadonlyMap<string, string>; readonly title: string }> => {
  const { Tokenizer } = await import("htmlparser2")
  const found = new Map<string, string>()
  let title = ""
  let tag = ""
  let attribute = ""
  let value = ""
  let attributes = new Map<string, string>()
  let inTitle = false

  const opened = (): void => {
    inTitle = tag === "title" && title === ""
    if (tag !== "meta") return
    const name = (attributes.get("property") ?? attributes.get("name") ?? "").toLowerCase()
    const content = attributes.get("content")
    if (content !== undefined && content.length <= maxUrlLength && !found.has(name)) found.set(name, content)
  }
  const addToTitle = (text: string): void => {
    if (inTitle && title.length < maxTextLength) title += text
  }
  const ignore = (): void => {}
  const tokenizer = new Tokenizer(
    { decodeEntities: true },
    {
      onopentagname: (start, end) => {
        tag = page.slice(start, end).toLowerCase()
        attributes = new Map()
      },
      onattribname: (start, end) => {
        attribute = page.slice(start, end).toLowerCase()
        value = ""
      },
      onattribdata: (start, end) => {
        value += page.slice(start, end)
      },
      onattribentity: (codePoint) => {
        value += String.fromCodePoint(codePoint)
      },
      onattribend: () => {
        if (tag === "meta" && !attributes.has(attribute)) attributes.set(attribute, value)
      },
      onopentagend: opened,
      onselfclosingtag: opened,
      onclosetag: () => {
        inTitle = false
      },
      ontext: (start, end) => addToTitle(page.slice(start, end)),
      ontextentity: (codePoint) => addToTitle(String.fromCodePoint(codePoint)),
      oncdata: ignore,
      oncomment: ignore,
      ondeclaration: ignore,
      onprocessinginstruction: ignore,
      onend: ignore
    }
  )
  for (let at = 0; at < page.length; at += sliceLength) {
    tokenizer.write(page.slice(at, at + sliceLength))
    await setImmediate()
  }
  tokenizer.end()
  return { found, title }
}

/** The description of a page by its bytes, of which the end may be missing. */
export const describePage = async (bytes: Buffer, contentType: string): Promise<Description> => {
  const { found, title } = await readTexts(decode(bytes, charsetOf(bytes, contentType)))

  const first = (...names: ReadonlyArray<string>) => names.map((name) => found.get(name)).find((text) => text?.trim())
  const texts: Record<string, string | number> = {}
  for (const name of properties) {
    const text = tidy(found.get(name) ?? "")
    if (text !== "" && !numbers.has(name)) texts[name] = text
    else if (/^[0-9]{1,6}$/.test(text)) texts[name] = Number(text)
  }
  const otherTitle = first("og:title", "twitter:title") ?? title
  const otherText = first("og:description", "twitter:description", "description")
  const image = first("og:image:secure_url", "og:image", "og:image:url", "twitter:image")
  return {
    ...texts,
    ...(tidy(otherTitle) === "" ? {} : { "og:title": tidy(otherTitle) }),
    ...(otherText === undefined ? {} : { "og:description": tidy(otherText) }),
    ...(image === undefined ? {} : { image })
  }
}
