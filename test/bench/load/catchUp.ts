/** The time until a user whose server was away has received all messages that were sent meanwhile, in ms. */
import { serveLoad } from "../LoadProcess.ts"
import { Follower } from "./Follower.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, todayPrefix } from "./People.ts"

export interface CatchUpInput {
  readonly there: string
  readonly guest: string
  readonly room: string
  readonly from: string
  readonly messages: number
}

serveLoad(async ({ from, guest, messages, room, there }: CatchUpInput): Promise<number> => {
  const begin = performance.now()
  const follower = new Follower()
  follower.follow(there, guest, from).catch((error: Error) => {
    throw error
  })
  // A message shows the other server that this one is back.
  const connection = await HttpConnection.open(there)
  const path = `${todayPrefix}/rooms/${room}/send/m.room.message/back`
  await jsonOf(connection.request("PUT", path, guest, JSON.stringify({ msgtype: "m.text", body: "back" })))
  const end = await follower.until(Array.from({ length: messages }, (_, index) => `flood.${index}`))
  return end - begin
})
