/**
 * Directories and servers on this machine that last as long as the scope of a test.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { createServer, type RequestListener, type Server } from "node:http"
import type { Server as HttpsServer } from "node:https"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, type Scope } from "effect"

/**
 * An empty directory, which is removed with the scope. PostgreSQL, which does not run as root, can enter it. The removal is repeated
 * while the PostgreSQL of a killed process, which ends after it, still writes there.
 */
export const temporaryDirectory = (name: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const directory = await mkdtemp(join(tmpdir(), `greenroom-${name}-`))
      await chmod(directory, 0o711)
      return directory
    }),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  )

/** Has a server listen on a free port until the scope closes, which ends its connections too. Returns the port. */
export const listenOnLoopback = (
  server: Server | HttpsServer,
  host = "127.0.0.1"
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, host, () => resume(Effect.succeed((server.address() as AddressInfo).port)))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

/** Serves HTTP on a free port, each time with a new server. Returns the URL of the server, without a slash at the end. */
export const serveHttp = (listener: RequestListener): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.suspend(() => listenOnLoopback(createServer(listener))),
    (port) => `http://127.0.0.1:${port}`
  )
