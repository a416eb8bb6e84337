/**
 * The description of a web page: its Open Graph properties, else its title and description. The page is read as a stream of
 * tags, and nothing of it is kept but a few texts of bounded length.
 */

/** Properties of Open Graph by their names; `image` is the URL of the image as the page writes it. */
export interface Description {
  readonly image?: string
  readonly [property: `og:${string}`]: string | number
}

const maxTextLength = 1_000
const maxUrlLength = 4_096

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

const tidy = (text: string): string => text.replace(/\s+/g, " ").trim().toWellFormed().slice(0, maxTextLength)

/** The description of a page by its bytes, of which the end may be missing. */
export const describePage = async (bytes: Buffer, contentType: string): Promise<Description> => {
  const { Parser } = await import("htmlparser2")
  const found = new Map<string, string>()
  let title = ""
  let inTitle = false

  const keep = (name: string, content: string | undefined): void => {
    if (content !== undefined && content.length <= maxUrlLength && !found.has(name)) found.set(name, content)
  }
  const parser = new Parser(
    {
      onopentag: (tag, attributes) => {
        inTitle = tag === "title" && title === ""
        if (tag === "meta") keep((attributes.property ?? attributes.name ?? "").toLowerCase(), attributes.content)
      },
      ontext: (text) => {
        if (inTitle && title.length < maxTextLength) title += text
      },
      onclosetag: (tag) => {
        if (tag === "title") inTitle = false
      }
    },
    { decodeEntities: true, lowerCaseTags: true }
  )
  parser.end(decode(bytes, charsetOf(bytes, contentType)))

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
