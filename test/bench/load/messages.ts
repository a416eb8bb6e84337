/** One message by HTTP, of a sender on a connection of their own. */
import type { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix, todayPrefix } from "./People.ts"

const body = JSON.stringify({
  msgtype: "m.text",
  body: "What is said in this room is what people say to one another"
})

export interface Message {
  readonly token: string
  /** As it stands in paths. */
  readonly room: string
  readonly transaction: string
  /** Whether to send by today's API. */
  readonly today: boolean
}

/** Fails unless the message is sent. */
export const sendMessage = async (
  connection: HttpConnection,
  { room, today, token, transaction }: Message
): Promise<void> => {
  const path = `${today ? todayPrefix : prefix}/rooms/${room}/send/m.room.message/${transaction}`
  const answer = await connection.request("PUT", path, token, body)
  if (answer.status !== 200) await jsonOf(Promise.resolve(answer))
}
