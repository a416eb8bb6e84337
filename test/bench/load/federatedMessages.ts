/**
 * Messages from one home server to another by today's API alone, so that it also runs on other servers than Greenroom. It measures the
 * rate and the processor time of both servers until a user of the other server has received the last message.
 */
import { serveLoad } from "../LoadProcess.ts"
import { processorTime } from "../Processes.ts"

export interface FederatedMessagesInput {
  readonly here: string
  readonly there: string
  /** The processes of both. */
  readonly pids: ReadonlyArray<number>
  /** Access tokens of the users here, who send, and of the one there, who follows the room. */
  readonly senders: ReadonlyArray<string>
  readonly guest: string
  /** The server name of `here`. */
  readonly through: string
  readonly messages: number
}

export interface FederatedMessages {
  readonly perSecond: number
  /** Processor time of both servers for a message, in ms. */
  readonly processor: number
}

const prefix = "/_matrix/client/v3"

const ask = async <A>(base: string, token: string, method: string, path: string, body?: object): Promise<A> => {
  const response = await fetch(`${base}${prefix}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as A
}

interface SyncAnswer {
  readonly next_batch: string
  readonly rooms?: {
    readonly join?: Record<string, { timeline?: { events: ReadonlyArray<{ content: { body?: string } }> } }>
  }
}

/** Waits until a message has come to the room; the newest of a timeline is always in it. */
const until = async (base: string, token: string, roomId: string, body: string, since: string): Promise<string> => {
  const path = `/sync?timeout=30000&since=${encodeURIComponent(since)}`
  const { next_batch, rooms } = await ask<SyncAnswer>(base, token, "GET", path)
  const events = rooms?.join?.[roomId]?.timeline?.events ?? []
  return events.some(({ content }) => content.body === body) ? next_batch : until(base, token, roomId, body, next_batch)
}

serveLoad(async (input: FederatedMessagesInput): Promise<FederatedMessages> => {
  const { guest, here, messages, pids, senders, there, through } = input
  const { room_id: roomId } = await ask<{ room_id: string }>(here, senders[0]!, "POST", "/createRoom", {
    preset: "public_chat",
    room_version: "12"
  })
  const room = encodeURIComponent(roomId)
  for (const token of senders.slice(1)) await ask(here, token, "POST", `/join/${room}`, {})
  const via = encodeURIComponent(through)
  await ask(there, guest, "POST", `/join/${room}?via=${via}&server_name=${via}`, {})
  const say = (token: string, body: string) =>
    ask(here, token, "PUT", `/rooms/${room}/send/m.room.message/${body}`, { msgtype: "m.text", body })

  /** Sends the messages and then a last one, and waits for that there. */
  const flood = async (count: number, name: string, since: string) => {
    let next = 0
    const work = async (token: string) => {
      while (next < count) await say(token, `${name}.${next++}`)
    }
    await Promise.all(senders.map(work))
    await say(senders[0]!, `${name}.end`)
    return until(there, guest, roomId, `${name}.end`, since)
  }

  const { next_batch } = await ask<SyncAnswer>(there, guest, "GET", "/sync?timeout=0")
  const since = await flood(Math.ceil(messages / 4), "warm", next_batch)
  const spent = () => pids.reduce((sum, pid) => sum + processorTime(pid), 0)
  const [begin, before] = [performance.now(), spent()]
  await flood(messages, "counted", since)
  return {
    perSecond: messages / ((performance.now() - begin) / 1_000),
    processor: (spent() - before) / messages
  }
})
