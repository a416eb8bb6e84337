/**
 * The baseline of what is waited for and delivered: node:http and `ws` alone. It speaks just enough of the client API for
 * the same load programs: long polls and sockets wait, a PUT wakes them all with the same text, `/initialSync?size=`
 * answers so many bytes. Nothing is checked, stored or remembered.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { serveLoad } from "../LoadProcess.ts"

/** How many messages there were, and the last of them: a poll from before it is answered at once. */
let position = 0
let latest = ""

/** An event as on the wire, with the text of a message in it. */
const chunkOf = (content: string): string =>
  JSON.stringify({
    chunk: [
      {
        event_id: "$0123456789abcdef01234567:bench.test",
        type: "m.room.message",
        room_id: "!0123456789abcdef0123:bench.test",
        user_id: "@sender0:bench.test",
        sender: "@sender0:bench.test",
        content: JSON.parse(content),
        ts: 1_414_141_414_141,
        origin_server_ts: 1_414_141_414_141,
        age: 12
      }
    ],
    start: String(position - 1),
    end: String(position)
  })

const sockets = new Set<WebSocket>()
/** Polls with the room that they wait for; undefined: any. */
let polls: Array<{ readonly response: ServerResponse; readonly room: string | undefined }> = []

const answer = (response: ServerResponse, body: string): void => {
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) })
  response.end(body)
}

const wakeAll = (text: string, url: string): void => {
  const waiting = polls
  polls = []
  for (const poll of waiting) {
    if (poll.room === undefined || url.includes(poll.room)) answer(poll.response, text)
    else polls.push(poll)
  }
  for (const socket of sockets) socket.send(text)
}

const server = createServer((request, response) => {
  if (request.method === "PUT") {
    let content = ""
    request.on("data", (chunk) => {
      content += chunk
    })
    request.on("end", () => {
      answer(response, "{}")
      position++
      latest = chunkOf(content)
      wakeAll(latest, request.url!)
    })
    return
  }
  const size = /[?&]size=([0-9]+)/.exec(request.url!)?.[1]
  const from = Number(/[?&]from=([0-9]+)/.exec(request.url!)?.[1])
  const room = /[?&]room=([^&]+)/.exec(request.url!)?.[1]
  if (from < position && room === undefined) answer(response, latest)
  else if (size === undefined) polls.push({ response, room })
  else answer(response, JSON.stringify("x".repeat(Number(size) - 2)))
})

const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false })
server.on("upgrade", (request, socket, head) =>
  webSockets.handleUpgrade(request, socket, head, (webSocket) => sockets.add(webSocket))
)

serveLoad(
  () =>
    new Promise<string>((resolve) => {
      server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () =>
        resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
      )
    })
)
