/** Sends a number of messages to one room, as fast as they are answered. */
import { serveLoad } from "../LoadProcess.ts"
import { jsonOf, onConnections, todayPrefix } from "./People.ts"

export interface FloodInput {
  readonly url: string
  readonly tokens: ReadonlyArray<string>
  readonly room: string
  readonly messages: number
}

serveLoad(async ({ messages, room, tokens, url }: FloodInput): Promise<number> => {
  const begin = performance.now()
  await onConnections(url, tokens.length, messages, (connection, index) => {
    const path = `${todayPrefix}/rooms/${room}/send/m.room.message/flood.${index}`
    const body = JSON.stringify({ msgtype: "m.text", body: `flood.${index}` })
    return jsonOf(connection.request("PUT", path, tokens[index % tokens.length]!, body))
  })
  return performance.now() - begin
})
