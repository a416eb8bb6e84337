/** A Linux network namespace for each node of a cluster, on a bridge: a node can be cut off from single addresses. Needs root. */
import { execFile, execFileSync } from "node:child_process"
import * as net from "node:net"
import { promisify } from "node:util"
import { Effect, Redacted } from "effect"

const run = (...args: ReadonlyArray<string>) => Effect.promise(() => promisify(execFile)("ip", args))

const name = `gr${process.pid}`

/** The reason why namespaces cannot be made on this machine; undefined if they can. */
export const absence = ((): string | undefined => {
  try {
    execFileSync("ip", ["netns", "add", `${name}try`], { stdio: "pipe" })
    execFileSync("ip", ["netns", "del", `${name}try`], { stdio: "pipe" })
    return undefined
  } catch (error) {
    return `network namespaces cannot be made here: ${error}`
  }
})()

export interface Namespace {
  readonly address: string
  /** The command that runs a program in the namespace. */
  readonly runBy: ReadonlyArray<string>
  /** Drops packets from the node to the address. */
  readonly cut: (address: string) => Effect.Effect<void>
  readonly mend: (address: string) => Effect.Effect<void>
}

const subnet = `10.213.${process.pid % 250}`

/** The address of the bridge, for clients, and the address of the database. */
export const hostAddress = `${subnet}.1`
export const databaseAddress = `${subnet}.2`

/** How often namespaces were made. The names differ, because removed links may exist for a moment. */
let times = 0

/** Makes namespaces. They are removed with the scope. */
export const make = Effect.fnUntraced(function* (count: number) {
  const bridge = `${name}t${times++}`
  yield* Effect.acquireRelease(run("link", "add", bridge, "type", "bridge"), () => run("link", "del", bridge))
  for (const address of [hostAddress, databaseAddress]) yield* run("addr", "add", `${address}/24`, "dev", bridge)
  yield* run("link", "set", bridge, "up")
  const makeOne = Effect.fnUntraced(function* (index: number) {
    const [namespace, device] = [`${bridge}n${index}`, `${bridge}v${index}`]
    const address = `${subnet}.${11 + index}`
    const within = (...args: ReadonlyArray<string>) => run("-n", namespace, ...args)
    yield* Effect.acquireRelease(run("netns", "add", namespace), () => run("netns", "del", namespace))
    yield* run("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    yield* run("link", "set", device, "master", bridge, "up")
    yield* within("addr", "add", `${address}/24`, "dev", "eth0")
    yield* within("link", "set", "eth0", "up")
    yield* within("link", "set", "lo", "up")
    return {
      address,
      runBy: ["ip", "netns", "exec", namespace],
      cut: (other) => Effect.asVoid(within("route", "add", "blackhole", `${other}/32`)),
      mend: (other) => Effect.asVoid(within("route", "del", "blackhole", `${other}/32`))
    } satisfies Namespace
  })
  return yield* Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    makeOne
  )
})

/** Forwards connections to an address to a Unix socket, until the scope closes. Returns the port. */
export const passOn = (address: string, socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((incoming) => {
        const outgoing = net.connect(socketPath)
        for (const socket of [incoming, outgoing]) socket.on("error", () => socket.destroy())
        incoming.pipe(outgoing).pipe(incoming)
        incoming.once("close", () => outgoing.destroy())
        outgoing.once("close", () => incoming.destroy())
        sockets.add(incoming)
      })
      const sockets = new Set<net.Socket>()
      server.once("close", () => {
        for (const socket of sockets) socket.destroy()
      })
      server.listen(0, address, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => (server.address() as net.AddressInfo).port))

/** The URL of the database over TCP, at `databaseAddress`. */
export const overNetwork = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const { pathname, searchParams } = new URL(Redacted.value(url).replace("postgresql://", "postgresql://localhost"))
  const socketPath = `${searchParams.get("host")}/.s.PGSQL.${searchParams.get("port")}`
  const port = yield* passOn(databaseAddress, socketPath)
  const user = searchParams.get("user")
  return Redacted.make(`postgresql://${user}@${databaseAddress}:${port}${pathname}`)
})
