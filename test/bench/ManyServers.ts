/**
 * Servers that exist for a gateway as destinations alone: one listener with TLS that answers transactions of today's dialect
 * for all of them.
 */

import { createServer } from "node:https"
import type { AddressInfo } from "node:net"
import { generate } from "selfsigned"

export interface ManyServers extends AsyncDisposable {
  readonly port: number
  /** Waits until so many PDUs have arrived since the last time. */
  readonly received: (pdus: number) => Promise<void>
}

export const startManyServers = async (): Promise<ManyServers> => {
  const certificate = await generate([{ name: "commonName", value: "many.test" }], { keySize: 2048 })
  let pdus = 0
  let notify = () => {}
  const server = createServer({ cert: certificate.cert, key: certificate.private }, (request, response) => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => parts.push(part))
    request.on("end", () => {
      const isTransaction = request.method === "PUT" && request.url?.startsWith("/_matrix/federation/v1/send/")
      const body = isTransaction
        ? (JSON.parse(Buffer.concat(parts).toString()) as { pdus: ReadonlyArray<object> })
        : undefined
      response
        .writeHead(isTransaction ? 200 : 404, { "content-type": "application/json" })
        .end(isTransaction ? '{"pdus":{}}' : '{"errcode":"M_NOT_FOUND","error":"Nothing here"}')
      pdus += body?.pdus.length ?? 0
      notify()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    port: (server.address() as AddressInfo).port,
    received: async (expected) => {
      while (pdus < expected) {
        await new Promise<void>((resolve) => {
          notify = resolve
        })
      }
      pdus -= expected
    },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}
