/** A client that follows a room by a socket, and reconnects at the position of the last frame. */
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { decodeServerFrame } from "@greenroom/protocol/SocketFrame"
import { Effect, Result } from "effect"
import { WebSocket } from "ws"
import type { Body } from "../../support/Curl.ts"
import type { Message } from "./History.ts"

export interface SocketFollowerOptions {
  /** The URL of the next connection. */
  readonly url: () => string
  readonly token: string
  readonly from: string
  readonly read: (events: ReadonlyArray<Body>) => ReadonlyArray<Message>
  readonly isLast: (message: Message) => boolean
}

/** The client reconnects after this time without a frame, in ms. */
const silence = 15_000

/** Returns the messages up to the last one. */
export const followBySocket = ({ from, isLast, read, token, url }: SocketFollowerOptions) =>
  Effect.callback<ReadonlyArray<Message>>((resume) => {
    const received: Array<Message> = []
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
      const current = new WebSocket(`${url().replace("http", "ws")}${clientPrefix}/socket?${query}`, ["m.json"])
      socket = current
      const watch = () => {
        clearTimeout(timer)
        timer = setTimeout(() => current.terminate(), silence)
      }
      watch()
      current.on("error", () => undefined)
      current.once("close", () => {
        clearTimeout(timer)
        if (!isOver) timer = setTimeout(connect, 200)
      })
      current.on("message", (data: Buffer) => {
        watch()
        const frame = Result.getOrThrow(decodeServerFrame("m.json", data.toString()))
        if (!("chunk" in frame)) return
        received.push(...read(frame.chunk))
        since = frame.end
        const last = received.at(-1)
        if (last === undefined || !isLast(last)) return
        end()
        resume(Effect.succeed(received))
      })
    }
    connect()
    return Effect.sync(end)
  })
