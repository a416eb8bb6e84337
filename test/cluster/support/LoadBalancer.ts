/** nginx in front of three nodes, with the configuration in docs/scaling.md. */
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as path from "node:path"
import { Effect } from "effect"
import * as GatewayProcess from "../../support/GatewayProcess.ts"

const template = new URL("nginx.conf", import.meta.url)

const accepts = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

/** Listens on `port` until the scope closes. `nodes`: ports on loopback, or addresses with a port. Returns the URL. */
export const start = Effect.fnUntraced(function* (port: number, nodes: ReadonlyArray<number | string>) {
  const directory = yield* GatewayProcess.temporaryDirectory
  const file = path.join(directory, "nginx.conf")
  yield* Effect.promise(async () => {
    const text = nodes.reduce<string>(
      (text, node, index) =>
        text.replace(`127.0.0.1:NODE${index + 1}`, typeof node === "number" ? `127.0.0.1:${node}` : node),
      await fs.readFile(template, "utf8")
    )
    await fs.writeFile(file, text.replaceAll("DIRECTORY", directory).replace("LISTEN", `${port}`))
  })
  yield* Effect.acquireRelease(
    Effect.sync(() => spawn("nginx", ["-c", file, "-e", path.join(directory, "error.log")], { stdio: "inherit" })),
    (child) =>
      Effect.promise(
        () =>
          new Promise((resolve) => {
            child.once("close", resolve)
            child.kill("SIGQUIT")
            child.kill("SIGTERM")
          })
      )
  )
  yield* Effect.repeat(
    Effect.promise(() => accepts(port)),
    { until: (accepted) => accepted }
  )
  return `http://127.0.0.1:${port}`
})
