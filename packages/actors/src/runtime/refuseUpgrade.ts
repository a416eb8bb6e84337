/** Outgoing requests that are answered with 101 Switching Protocols, which none of them requests. */
import type { ClientRequest } from "node:http"

/** Lets such a request fail. Node closes its connection, and emits neither a response nor an error. */
export const refuseUpgrade = (request: ClientRequest): void => {
  request.once("upgrade", (_response, socket) => {
    socket.destroy()
    request.emit("error", new Error("the answer switches protocols"))
  })
}
