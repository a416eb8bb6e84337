/** Creates rooms and sends messages to each, as in the traffic of an afternoon. */
import { serveLoad } from "../LoadProcess.ts"
import { createRoom, jsonOf, onConnections, prefix, register } from "./People.ts"

export interface FilledRoomsInput {
  readonly url: string
  readonly rooms: number
  readonly messages: number
}

/** Returns how many messages were sent. */
serveLoad(async ({ messages, rooms, url }: FilledRoomsInput): Promise<number> => {
  const people = await register(url, "author", Math.ceil(rooms / 10))
  await onConnections(url, 16, rooms, async (connection, index) => {
    const { token } = people[index % people.length]!
    const room = await createRoom(connection, token)
    for (let number = 0; number < messages; number++) {
      const body = JSON.stringify({ msgtype: "m.text", body: `message ${number} of what people say to one another` })
      await jsonOf(connection.request("PUT", `${prefix}/rooms/${room}/send/m.room.message/${number}`, token, body))
    }
  })
  return rooms * messages
})
