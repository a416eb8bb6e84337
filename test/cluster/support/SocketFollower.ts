/** A client that follows a room by a socket, and connects again wherever the last one ended. */
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { decodeServerFrame } from "@greenroom/protocol/SocketFrame"
import { Effect, Result } from "effect"
import { WebSocket } from "ws"
import type { Body } from "../../support/Curl.ts"
import type { Message } from "./History.ts"

export interface SocketFollowerOptions {
  /** The node to connect to, anew for each connection. */
  readonly url: () => string
  readonly token: string
  readonly from: string
  readonly read: (events: ReadonlyArray<Body>) => ReadonlyArray<Message>
  readonly isLast: (message: Message) => boolean
}

/** How long a connection may be silent before the client takes another: as the pings of a real one would tell. */
const silence = 15_000

/** Returns what came, up to the last message. */
export const followBySocket = ({ from, isLast, read, token, url }: SocketFollowerOptions) =>
  Effect.callback<ReadonlyArray<Message>>((resume) => {
    const got: Array<Message> = []
    let since = from
    let socket: WebSocket | undefined
    let timer: NodeJS.Timeout | undefined
    let isOver = false

    const end = () => {
      isOver = true
      clearTimeout(timer)
      socket?.terminate()
    }

    const connect = () => {
      const query = `access_token=${encodeURIComponent(token)}&from=${encodeURIComponent(since)}`
      const mine = new WebSocket(`${url().replace("http", "ws")}${clientPrefix}/socket?${query}`, ["m.json"])
      socket = mine
      const watch = () => {
        clearTimeout(timer)
        timer = setTimeout(() => mine.terminate(), silence)
      }
      watch()
      mine.on("error", () => undefined)
      mine.once("close", () => {
        clearTimeout(timer)
        if (!isOver) timer = setTimeout(connect, 200)
      })
      mine.on("message", (data: Buffer) => {
        watch()
        const frame = Result.getOrThrow(decodeServerFrame("m.json", data.toString()))
        if (!("chunk" in frame)) return
        got.push(...read(frame.chunk))
        since = frame.end
        const last = got.at(-1)
        if (last === undefined || !isLast(last)) return
        end()
        resume(Effect.succeed(got))
      })
    }
    connect()
    return Effect.sync(end)
  })
