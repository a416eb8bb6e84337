/**
 * The address of the WebSocket. It holds the access token, because browsers cannot send headers with a WebSocket; it must
 * not be logged.
 */
import { Redacted } from "effect"
import type { TransportOptions } from "./Transport.ts"

export const socketAddress = ({ accessToken, baseUrl, prefix }: TransportOptions, from: string): string => {
  const url = new URL(`${baseUrl}${prefix}/socket`)
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:"
  if (accessToken !== undefined) url.searchParams.set("access_token", Redacted.value(accessToken))
  url.searchParams.set("from", from)
  return url.href
}
