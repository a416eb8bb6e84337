/**
 * Ports for servers that tests stop and start again. They are below the ephemeral ports of the system, so that no other socket takes one
 * while its server is stopped.
 */
import { createServer } from "node:net"
import { Effect } from "effect"

const lowest = 10_000
const count = 18_000

const isFree = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

/** A port that is free now. */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  const port = lowest + Math.floor(Math.random() * count)
  return Effect.flatMap(isFree(port), (free) => (free ? Effect.succeed(port) : freePort))
})

export const freePorts = (count: number): Effect.Effect<ReadonlyArray<number>> =>
  Effect.forEach(Array.from({ length: count }), () => freePort)
