/**
 * The scope of an authorisation: the whole client-server API, for one device, whose ID the client chose. The names of MSC2967, which
 * clients still send, have the same meaning. `openid` asks for an ID token beside the access token. Other scope tokens are ignored.
 *
 * Source: "Scope" of the client-server specification; OpenID Connect Core 1.0, 3.1.2.1.
 */
export interface Scope {
  readonly deviceId: string
  /** The tokens that are granted, as the client wrote them. */
  readonly granted: string
  /** Whether the client wants an ID token. */
  readonly openid: boolean
}

const api = /^urn:matrix:(?:client|org\.matrix\.msc2967\.client):api:\*$/
const device = /^urn:matrix:(?:client|org\.matrix\.msc2967\.client):device:([!#-[\]-~]{1,255})$/

/** The scope; undefined unless it has the API and exactly one device. */
export const parseScope = (text: string): Scope | undefined => {
  const tokens = text.split(" ").filter((token) => token !== "")
  const granted = tokens.filter((token) => token === "openid" || api.test(token) || device.test(token))
  const devices = new Set(granted.flatMap((token) => device.exec(token)?.[1] ?? []))
  const [deviceId] = devices
  if (deviceId === undefined || devices.size > 1 || !granted.some((token) => api.test(token))) return undefined
  return { deviceId, granted: granted.join(" "), openid: granted.includes("openid") }
}
