/**
 * A contact as a jCard (RFC 7095), which is read from and written as vCard 4.0 (RFC 6350) by `ical.js`. vCard 3.0 is read too,
 * and becomes 4.0. This module needs the parser, and is loaded with the first request for contacts.
 *
 * A card that is accepted can be written as vCard and read again without a change. Names of properties are in lower case.
 */
import { createHash } from "node:crypto"
import { isUserId, type UserId } from "@greenroom/protocol/Identifiers"
import { canonicalEmail, canonicalPhoneNumber } from "@greenroom/protocol/identity/ThirdPartyId"
import { InvalidParam, NotJson, TooLarge } from "@greenroom/protocol/MatrixError"
import type { ContactAddress, ContactMedium, NewContact } from "@greenroom/store/ContactStore"
import ICAL from "ical.js"
import { cardTooLarge, maxCardLength } from "./CardSplitter.ts"

export type Value = string | number | boolean | ReadonlyArray<Value>

/** Name, parameters, type of the values, values. */
export type Property = readonly [
  name: string,
  parameters: { readonly [name: string]: string | ReadonlyArray<string> },
  type: string,
  ...values: ReadonlyArray<Value>
]

/** A card by what identifies its properties, in their order; of those with the same key the last one counts. */
export interface Card {
  readonly uid: string
  readonly properties: Map<string, Property>
}

const maxProperties = 500
const maxUid = 255
const maxName = 255
const maxSearch = 4_000

/** The largest PHOTO, LOGO or SOUND that is inside of the card, in characters. */
const maxPhotoLength = 256 * 1024

/** Properties of which a card has one value. */
const single = new Set(["version", "uid", "n", "bday", "anniversary", "gender", "rev", "prodid", "kind"])
/** Properties of which two values have no order of preference. */
const unique = new Set(["version", "uid", "kind", "rev", "prodid"])

const namePattern = /^[a-z0-9-]{1,64}$/i

const wrong = (error: string) => new InvalidParam({ error })

const isText = (value: unknown): value is string =>
  typeof value === "string" && value.isWellFormed() && !/[\0\r]/.test(value)

const isValue = (value: unknown, depth = 0): value is Value =>
  isText(value) ||
  typeof value === "number" ||
  typeof value === "boolean" ||
  (depth < 2 && Array.isArray(value) && value.every((entry) => isValue(entry, depth + 1)))

const isParameter = ([name, value]: readonly [string, unknown]): boolean =>
  namePattern.test(name) && (isText(value) || (Array.isArray(value) && value.every(isText)))

/** One property, checked. Throws a `MatrixError`. */
const toProperty = (given: unknown): Property => {
  if (!Array.isArray(given) || given.length < 4) throw wrong("Expected properties of the form [name, {}, type, value]")
  const [name, parameters, type, ...values] = given as ReadonlyArray<unknown>
  if (typeof name !== "string" || !namePattern.test(name)) throw wrong("The name of a property is malformed")
  const label = name.toUpperCase()
  if (typeof parameters !== "object" || parameters === null || !Object.entries(parameters).every(isParameter)) {
    throw wrong(`${label}: a parameter is malformed`)
  }
  if (!values.every((value) => isValue(value))) throw wrong(`${label}: the value is malformed`)
  // The parser knows no type for some names of its own prototypes.
  const known = typeof type === "string" && namePattern.test(type) ? type.toLowerCase() : "unknown"
  return [name.toLowerCase(), parameters as Property[1], known, ...(values as ReadonlyArray<Value>)]
}

const textOf = ([, , , value]: Property): string =>
  (Array.isArray(value) ? (value as ReadonlyArray<Value>).flat(2).join(" ") : String(value)).trim()

const withoutScheme = (text: string): string => text.replace(/^(?:mailto|tel):/i, "").replace(/[;?].*$/s, "")

const address = (medium: ContactMedium, text: string, matrixId?: UserId): ContactAddress => ({
  medium,
  address: text,
  matrixId
})

const phoneOf = (text: string): ContactAddress | undefined => {
  const digits = text.replaceAll(/[^0-9+]/g, "").replace(/^00/, "+")
  const canonical = digits.startsWith("+") ? canonicalPhoneNumber(digits) : undefined
  if (canonical !== undefined) return address("msisdn", canonical)
  return /^\+?[0-9]{3,32}$/.test(digits) ? address("phone", digits) : undefined
}

/** A user named by `matrix:u/alice:example.org` or `https://matrix.to/#/@alice:example.org`. */
const userOf = (text: string): UserId | undefined => {
  const [, inUri, inLink] =
    /^(?:matrix:u(?:ser)?\/([^/?#]+)|https:\/\/matrix\.to\/#\/(@[^/?]+|%40[^/?]+))/i.exec(text) ?? []
  try {
    const userId = inUri === undefined ? decodeURIComponent(inLink ?? "") : `@${decodeURIComponent(inUri)}`
    return isUserId(userId) && isText(userId) ? userId : undefined
  } catch {
    return undefined
  }
}

/** The address that a property is, in the form in which addresses are compared. */
const addressOf = (property: Property): ContactAddress | undefined => {
  const [name] = property
  if (name === "email") {
    const canonical = canonicalEmail(withoutScheme(textOf(property)))
    return canonical === undefined ? undefined : address("email", canonical)
  }
  if (name === "tel") return phoneOf(withoutScheme(textOf(property)))
  if (name === "impp" || name === "url" || name === "x-matrix") {
    const userId = userOf(textOf(property))
    return userId === undefined ? undefined : address("matrix", userId, userId)
  }
  return undefined
}

/** The key that distinguishes properties of a card. */
const keyOf = (property: Property): string => {
  const [name, { altid }, , ...values] = property
  if (single.has(name) && altid === undefined) return name
  const known = addressOf(property)
  return known === undefined ? `${name}\n${JSON.stringify(values)}` : `${name}\n${known.medium}\n${known.address}`
}

const checkPhoto = (property: Property): void => {
  if (textOf(property).length > maxPhotoLength) {
    throw new TooLarge({ error: `${property[0].toUpperCase()} is larger than ${maxPhotoLength} characters` })
  }
}

export const checkCount = (properties: number): void => {
  if (properties > maxProperties) throw new TooLarge({ error: `The card has more than ${maxProperties} properties` })
}

/** The properties that every contact needs. RFC 6350 requires an FN, which old programs leave out. */
const nameSources = ["n", "org", "nickname", "email", "tel", "impp"]

/** A name as people say it: N begins with the family name, which the given and the additional names follow. */
const spoken = (property: Property): string => {
  const [name, , , value] = property
  if (name !== "n" || !Array.isArray(value)) return textOf(property)
  const [family = "", given = "", additional = ""] = value as ReadonlyArray<Value>
  return [given, additional, family].flat(2).join(" ").replaceAll(/ +/g, " ").trim()
}

const nameOf = (properties: Iterable<Property>): string => {
  const all = [...properties]
  for (const source of ["fn", ...nameSources]) {
    const found = all.find((property) => property[0] === source && textOf(property) !== "")
    if (found !== undefined) return (spoken(found) || textOf(found)).slice(0, maxName).toWellFormed()
  }
  return ""
}

/** The same card has the same UID, also if its program gave it none: importing it again adds nothing. */
const derivedUid = (properties: ReadonlyArray<Property>): string => {
  const hash = createHash("sha256").update(JSON.stringify(properties)).digest("hex")
  return `urn:uuid:${[hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`, `8${hash.slice(17, 20)}`, hash.slice(20, 32)].join("-")}`
}

const order = (name: string): number => ["version", "uid", "fn"].indexOf(name) >>> 0

/** The properties as a card. Throws a `MatrixError`. */
const toCard = (given: ReadonlyArray<Property>): Card => {
  checkCount(given.length)
  const seen = new Set<string>()
  for (const property of given) {
    const [name] = property
    if (unique.has(name) && seen.has(name)) throw wrong(`${name.toUpperCase()}: expected at most one`)
    seen.add(name)
    if (name === "photo" || name === "logo" || name === "sound") checkPhoto(property)
  }
  const own = given.find(([name]) => name === "uid")
  const uid = own === undefined ? derivedUid(given) : textOf(own)
  if (uid === "" || uid.length > maxUid) throw wrong(`UID: expected 1 to ${maxUid} characters`)
  const name = nameOf(given)
  if (name === "") throw wrong("FN: missing, and nothing else names the contact")
  const rest = given.filter(([property]) => property !== "version" && property !== "uid")
  const head: Array<Property> = [["version", {}, "text", "4.0"], own ?? ["uid", {}, "text", uid]]
  if (!seen.has("fn")) head.push(["fn", {}, "text", name])
  const sorted = [...head, ...rest].sort((a, b) => order(a[0]) - order(b[0]))
  return { uid, properties: new Map(sorted.map((property) => [keyOf(property), property])) }
}

/** The jCard as `ical.js` has it, whose third element are components, which a vCard has none of. */
const toIcal = (properties: Iterable<Property>): [string, Array<unknown>, Array<unknown>] => [
  "vcard",
  [...properties],
  []
]

/**
 * The parser leaves an escaped semicolon in a text as it is. Old programs write it, and RFC 6350 allows it in every text,
 * so it is unescaped here.
 */
const unescapeSemicolon = ([name, parameters, type, ...values]: Property): Property => [
  name,
  parameters,
  type,
  ...(type === "text"
    ? values.map((value) => (typeof value === "string" ? value.replaceAll("\\;", ";") : value))
    : values)
]

const vcardDesign = ICAL.design.getDesignSet("vcard")

/** The commas of a URI, such as those of `data:`, are not escaped (RFC 6350, section 3.4). */
const design = {
  ...vcardDesign,
  value: {
    ...vcardDesign.value,
    uri: { toICAL: (uri: string) => uri.replaceAll("\\", "\\\\").replaceAll("\n", "\\n") }
  }
}

const parseVcard = (text: string): ReadonlyArray<Property> => {
  let parsed: unknown
  try {
    parsed = ICAL.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw wrong(`The vCard is malformed: ${reason.slice(0, 200).toWellFormed()}`)
  }
  return propertiesOf(parsed).map(unescapeSemicolon)
}

/** The properties of a jCard. Throws a `MatrixError`. */
const propertiesOf = (jcard: unknown): ReadonlyArray<Property> => {
  if (!Array.isArray(jcard) || typeof jcard[0] !== "string" || jcard[0].toLowerCase() !== "vcard") {
    throw wrong('Expected a jCard: ["vcard", [properties]]')
  }
  const [, properties, components = []] = jcard as ReadonlyArray<unknown>
  if (!Array.isArray(properties)) throw wrong('Expected a jCard: ["vcard", [properties]]')
  if (!Array.isArray(components) || components.length > 0) throw wrong("A card inside of a card is not supported")
  checkCount(properties.length)
  return properties.map(toProperty)
}

const writeVcard = (properties: Iterable<Property>): string => {
  try {
    return `${ICAL.stringify.component(toIcal(properties) as never, design as never)}\r\n`
  } catch {
    throw wrong("The jCard cannot be written as a vCard: a value does not fit its type")
  }
}

const versionOf = (properties: ReadonlyArray<Property>): string => {
  const version = properties.find(([name]) => name === "version")
  return version === undefined ? "4.0" : textOf(version)
}

const listOf = (value: string | ReadonlyArray<string> | undefined): ReadonlyArray<string> =>
  value === undefined ? [] : typeof value === "string" ? [value] : value

/** A property of vCard 3.0 as 4.0 has it: binary content as a data URI, the preferred one of several by PREF. */
const fromVersion3 = ([name, { encoding, type, ...parameters }, valueType, ...values]: Property): Property => {
  const types = listOf(type)
  const kept = types.filter((text) => text.toLowerCase() !== "pref")
  const preferred = kept.length < types.length ? { pref: "1" } : {}
  if (valueType === "binary") {
    const subtype = (kept[0] ?? "octet-stream").toLowerCase()
    const kind = name === "photo" || name === "logo" ? "image" : name === "sound" ? "audio" : "application"
    return [name, { ...parameters, ...preferred }, "uri", `data:${kind}/${subtype};base64,${String(values[0])}`]
  }
  const lower = kept.map((text) => text.toLowerCase())
  const typed = lower.length === 0 ? {} : { type: lower.length === 1 ? (lower[0] as string) : lower }
  return [name, { ...parameters, ...typed, ...preferred }, valueType === "phone-number" ? "text" : valueType, ...values]
}

/** The properties as version 4.0 has them. Throws a `MatrixError`. */
const upToDate = (properties: ReadonlyArray<Property>): ReadonlyArray<Property> => {
  const version = versionOf(properties)
  if (version === "4.0") return properties
  if (version === "3.0") {
    return properties.map((property) =>
      property[0] === "version" ? ["version", {}, "text", "4.0"] : fromVersion3(property)
    )
  }
  throw wrong(`VERSION: expected 4.0 or 3.0, got ${version.slice(0, 20).toWellFormed()}`)
}

/** The card as it is read after it was written, if that is the same from then on. Throws a `MatrixError`. */
const normalised = (given: Card): Card => {
  let card = given
  for (let round = 0; round < 3; round += 1) {
    const text = writeVcard(card.properties.values())
    if (text.length > maxCardLength) throw cardTooLarge("The card")
    const next = toCard(parseVcard(text))
    if (JSON.stringify([...next.properties]) === JSON.stringify([...card.properties])) return card
    card = next
  }
  throw wrong("The card changes whenever it is written: a value does not fit its type")
}

/** Reads one vCard. Throws a `MatrixError`. */
export const readVcard = (text: string): Card => normalised(toCard(upToDate(parseVcard(text))))

/** Reads one jCard. Throws a `MatrixError`. */
export const readJcard = (jcard: unknown): Card => normalised(toCard(upToDate(propertiesOf(jcard))))

/** The same of JSON text. */
export const readJcardText = (text: string): Card => {
  let jcard: unknown
  try {
    jcard = JSON.parse(text)
  } catch {
    throw new NotJson({ error: "The jCard is not JSON" })
  }
  return readJcard(jcard)
}

/** A card that was accepted before. */
export const fromStored = (card: string): Card => toCard((JSON.parse(card) as [string, Array<Property>])[1])

/** The card of a stored contact as a vCard. */
export const storedAsVcard = (card: string): string => writeVcard((JSON.parse(card) as [string, Array<Property>])[1])

/** The addresses of a card, each once. */
export const addressesOf = ({ properties }: Card): ReadonlyArray<ContactAddress> => {
  const found = new Map<string, ContactAddress>()
  for (const property of properties.values()) {
    const known = addressOf(property)
    if (known !== undefined) found.set(`${known.medium}\n${known.address}`, known)
  }
  return [...found.values()]
}

const searchable = new Set(["fn", "n", "nickname", "email", "tel", "org", "impp"])

/** A card as it is stored, under another UID if one is given. Throws M_TOO_LARGE. */
export const toStored = (
  contactId: string,
  card: Card,
  addresses: ReadonlyArray<ContactAddress>,
  uid = card.uid
): NewContact => {
  const properties = [...card.properties.values()]
    .map((property): Property => (property[0] === "uid" && uid !== card.uid ? ["uid", {}, "text", uid] : property))
    .sort((a, b) => order(a[0]) - order(b[0]))
  checkCount(properties.length)
  const text = JSON.stringify(["vcard", properties])
  if (text.length > maxCardLength) throw cardTooLarge("The card")
  const name = nameOf(properties)
  const search = properties
    .filter(([property]) => searchable.has(property))
    .map((property) => textOf(property))
    .concat(addresses.map((contactAddress) => contactAddress.address))
  return {
    contactId,
    uid,
    name,
    sortName: name.toLowerCase().slice(0, maxName).toWellFormed(),
    search: search.join("\n").slice(0, maxSearch).toLowerCase().toWellFormed(),
    card: text,
    addresses
  }
}
