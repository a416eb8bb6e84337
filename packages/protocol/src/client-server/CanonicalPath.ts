/**
 * The spellings in which clients ask for one endpoint of today's client API: `r0` for `v3`, a slash at the end, and the
 * unstable names of endpoints that have a stable one by now. The router knows one spelling; this turns the others into it.
 *
 * Source: "API Versioning" of the client-server specification; the unstable names are those that living clients send.
 */

/** The prefix of today's client API. */
export const clientServerPrefix = "/_matrix/client"

const r0 = `${clientServerPrefix}/r0/`
const unstable = `${clientServerPrefix}/unstable/`

/** Unstable prefixes, below `/_matrix/client/unstable/`, with what stands for them below `/_matrix/client/`. */
const unstablePrefixes: ReadonlyArray<readonly [unstable: string, stable: string]> = [
  ["uk.tcpip.msc4133/profile/", "v3/profile/"],
  ["org.matrix.msc2285/", "v3/"],
  ["im.nheko.summary/summary/", "v1/room_summary/"],
  ["org.matrix.msc2946/rooms/", "v1/rooms/"],
  ["org.matrix.msc3030/rooms/", "v1/rooms/"],
  ["org.matrix.msc3856/rooms/", "v1/rooms/"],
  ["org.matrix.msc3440/rooms/", "v1/rooms/"],
  ["fi.mau.msc2659/appservice/", "v1/appservice/"],
  ["org.matrix.msc4260/users/", "v3/users/"],
  ["org.matrix.msc3882/login/token", "v1/login/get_token"],
  ["org.matrix.msc3882/login/get_token", "v1/login/get_token"],
  ["org.matrix.msc3916/media/", "v1/media/"],
  ["org.matrix.msc2965/auth_metadata", "v1/auth_metadata"],
  ["uk.half-shot.msc2666/user/mutual_rooms", "v1/mutual_rooms"],
  ["org.matrix.msc3391/user/", "v3/user/"],
  ["account/3pid/", "v3/account/3pid/"],
  ["org.matrix.simplified_msc3575/sync", "v4/sync"],
  ["org.matrix.msc4140/delayed_events", "v1/delayed_events"],
  ["org.matrix.msc4140/rooms/", "v3/rooms/"],
  ["org.matrix.msc4151/rooms/", "v3/rooms/"],
  ["org.matrix.msc4143/rtc/", "v1/rtc/"],
  ["org.matrix.msc3231/register/", "v1/register/"],
  ["keys/device_signing/upload", "v3/keys/device_signing/upload"],
  ["keys/signatures/upload", "v3/keys/signatures/upload"],
  ["uk.timedout.msc4323/admin/", "v1/admin/"]
]

/** `rooms/{roomIdOrAlias}/summary`, below its unstable prefixes. */
const summaryPath = /^(?:im\.nheko\.summary|org\.matrix\.msc3266)\/rooms\/([^/?]+)(?:\/summary)?(?=\/?(?:\?|$))/

/** The path without a slash at its end. An empty state key is spelled with and without one. */
const withoutFinalSlash = (url: string): string => {
  const query = url.indexOf("?")
  const end = query === -1 ? url.length : query
  return end > 1 && url[end - 1] === "/" ? url.slice(0, end - 1) + url.slice(end) : url
}

const stableName = (url: string): string => {
  const rest = url.slice(unstable.length)
  if (summaryPath.test(rest)) return `${clientServerPrefix}/${rest.replace(summaryPath, "v1/room_summary/$1")}`
  for (const [from, to] of unstablePrefixes) {
    if (rest.startsWith(from)) return `${clientServerPrefix}/${to}${rest.slice(from.length)}`
  }
  return url
}

const media = /^\/_matrix\/media\/(?:r0|v1|unstable\/fi\.mau\.msc2246)\//

/** The content repository, where `create` is the one endpoint of version 1. */
const canonicalMediaUrl = (url: string): string => {
  const moved = withoutFinalSlash(url.replace(media, "/_matrix/media/v3/"))
  return moved.replace(/^\/_matrix\/media\/v3\/create(?=\?|$)/, "/_matrix/media/v1/create")
}

/** A URL (path and query) of today's client API in the one spelling that is routed; any other as it is. */
export const canonicalClientServerUrl = (url: string): string => {
  if (url.startsWith("/_matrix/media/")) return canonicalMediaUrl(url)
  if (!url.startsWith("/_matrix/client/")) return url
  const named = url.startsWith(r0)
    ? `${clientServerPrefix}/v3/${url.slice(r0.length)}`
    : url.startsWith(unstable)
      ? stableName(url)
      : url
  return withoutFinalSlash(named)
}
