/**
 * Joins by users of another home server: of a new room, of one with much state, and of one with a long history, which is read
 * back to its beginning.
 */
import { serveLoad } from "../LoadProcess.ts"
import { timed } from "../Percentiles.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { createRoom, join, jsonOf, onConnections, prefix, register } from "./People.ts"

export interface RemoteRoomsInput {
  readonly here: string
  readonly there: string
  /** Invited users of the big room, and its state events beside them. */
  readonly members: number
  readonly state: number
  /** Messages of the long history. */
  readonly messages: number
}

/** Times in ms. */
export interface RemoteRooms {
  readonly joinNew: number
  readonly joinBig: number
  readonly readHere: number
  readonly readThere: number
  readonly readMessages: number
}

/** Reads the messages of a room from the newest to the oldest. Gives back how many there were. */
const readBack = async (url: string, token: string, room: string): Promise<number> => {
  const connection = await HttpConnection.open(url)
  let from = "END"
  let messages = 0
  while (true) {
    const { chunk, end } = await jsonOf<{ chunk: ReadonlyArray<{ type: string }>; end: string }>(
      connection.request("GET", `${prefix}/rooms/${room}/messages?dir=b&from=${from}&limit=100`, token)
    )
    messages += chunk.filter(({ type }) => type === "m.room.message").length
    if (chunk.some(({ type }) => type === "m.room.create") || chunk.length === 0) return messages
    from = end
  }
}

serveLoad(async (input: RemoteRoomsInput): Promise<RemoteRooms> => {
  const { here, there } = input
  const [owner] = await register(here, "owner", 1)
  const [guest, reader] = await register(there, "visitor", 2)
  const { token } = owner!
  const connection = await HttpConnection.open(here)
  const [empty, big, long] = [
    await createRoom(connection, token),
    await createRoom(connection, token),
    await createRoom(connection, token)
  ]

  const members = await register(here, "member", input.members)
  await onConnections(here, 32, input.members, (connection, index) => {
    const body = JSON.stringify({ user_id: members[index]!.userId })
    return jsonOf(connection.request("POST", `${prefix}/rooms/${big}/invite`, token, body))
  })
  await onConnections(here, 32, input.state, (connection, index) => {
    const path = `${prefix}/rooms/${big}/state/org.greenroom.bench/key${index}`
    return jsonOf(connection.request("PUT", path, token, JSON.stringify({ value: `of state ${index}` })))
  })
  await onConnections(here, 8, input.messages, (connection, index) => {
    const body = JSON.stringify({ msgtype: "m.text", body: `message ${index}` })
    return jsonOf(connection.request("PUT", `${prefix}/rooms/${long}/send/m.room.message/${index}`, token, body))
  })

  // Not before: the gateway closes idle connections.
  const remote = await HttpConnection.open(there)
  const joinNew = await timed(() => join(remote, guest!.token, empty))
  const joinBig = await timed(() => join(remote, guest!.token, big))
  await join(remote, reader!.token, long)
  let readMessages = 0
  const readHere = await timed(() => readBack(here, token, long))
  const readThere = await timed(async () => {
    readMessages = await readBack(there, reader!.token, long)
  })
  return { joinNew, joinBig, readHere, readThere, readMessages }
})
