/**
 * The authentication of requests between servers: `Authorization: X-Matrix origin=...,key="ed25519:...",sig="..."`, and the JSON object whose
 * canonical form that signature is over.
 *
 * Headers are written in the form of the first servers. Headers of others may quote values or not, and may have their
 * parameters in any order and case, with space around commas, and further parameters. A header with a parameter twice is ignored.
 *
 * Source: "Security" of the draft, "Request Authentication" of the server-server specification.
 */
import { isServerName, type ServerName } from "../Identifiers.ts"
import type { Json } from "../Json.ts"

/** One signature of a request. */
export interface XMatrix {
  readonly origin: ServerName
  /** `ed25519:` and a name. */
  readonly key: string
  /** In unpadded base64. */
  readonly sig: string
  /** The server to which the request goes. The draft has no such field. */
  readonly destination?: string
}

/** The most signatures of one request that are checked. */
export const maxSignatures = 4

/** The content that a request's signature covers. */
export interface RequestContent {
  /** In capitals. */
  readonly method: string
  /** Path and query as on the wire. */
  readonly uri: string
  readonly origin: ServerName
  readonly destination: ServerName
  /** The body, absent if there is none. */
  readonly content?: Json
}

const plainValue = /^[A-Za-z0-9.:_-]+$/

const quote = (value: string): string => `"${value.replace(/["\\]/g, "\\$&")}"`

/** The header's value. */
export const formatXMatrix = ({ destination, key, origin, sig }: XMatrix): string => {
  const to = destination === undefined ? "" : `,destination=${quote(destination)}`
  return `X-Matrix origin=${plainValue.test(origin) ? origin : quote(origin)},key=${quote(key)},sig=${quote(sig)}${to}`
}

/** Lists may have empty elements: commas with nothing between them. */
const scheme = /^\s*x-matrix\s[\s,]*/i
/** The name of a parameter is a `token` of RFC 9110, its value more than one: older servers do not quote colons. */
const parameter = /([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))\s*(?:,[\s,]*|$)/y

const readParameters = (text: string): ReadonlyMap<string, string> | undefined => {
  const parameters = new Map<string, string>()
  parameter.lastIndex = 0
  while (parameter.lastIndex < text.length) {
    const found = parameter.exec(text)
    if (found === null) return undefined
    const name = found[1]!.toLowerCase()
    if (parameters.has(name)) return undefined
    parameters.set(name, found[2]?.replace(/\\(.)/g, "$1") ?? found[3]!)
  }
  return parameters
}

/** One signature of a value of the header. Undefined if it has another form, or names a parameter twice. */
export const parseXMatrix = (header: string): XMatrix | undefined => {
  const start = scheme.exec(header)
  if (start === null) return undefined
  const parameters = readParameters(header.slice(start[0].length).trimEnd())
  const origin = parameters?.get("origin")
  const key = parameters?.get("key")
  const sig = parameters?.get("sig")
  if (origin === undefined || !isServerName(origin) || !key || !sig) return undefined
  const destination = parameters?.get("destination")
  return { origin: origin as ServerName, key, sig, ...(destination === undefined ? {} : { destination }) }
}

/** Whether a value of the header names an origin that is not a server name. */
export const hasMalformedOrigin = (header: string): boolean => {
  const start = scheme.exec(header)
  const origin = start === null ? undefined : readParameters(header.slice(start[0].length).trimEnd())?.get("origin")
  return origin !== undefined && origin !== "" && !isServerName(origin)
}

/** The start of a further signature in one value of the header. */
const next = /,(?=\s*x-matrix\s)/i

/** The signatures of a request: the header may be there several times, and hold several. Bad ones are left out. */
export const parseXMatrixHeaders = (headers: ReadonlyArray<string>): ReadonlyArray<XMatrix> =>
  headers
    .flatMap((header) => header.split(next))
    .slice(0, maxSignatures)
    .flatMap((header) => parseXMatrix(header) ?? [])
