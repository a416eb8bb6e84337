/**
 * The servers that the clients meet: Synapse as the control, and Greenroom.
 */
import * as fs from "node:fs/promises"
import { type AddressInfo, createServer } from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { Effect } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import * as Synapse from "../support/Synapse.ts"

export interface Server {
  readonly name: "synapse" | "greenroom"
  readonly url: string
  readonly serverName: string
  /** The version of the rooms that it makes if it is not asked for another. */
  readonly roomVersion: string
}

/** A port that is free now. */
const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

const settings = (roomVersion: string) => ({
  default_room_version: roomVersion,
  enable_registration: true,
  enable_registration_without_verification: true,
  user_directory: { enabled: true, search_all_users: true },
  room_list_publication_rules: [{ action: "allow" }]
})

/** Runs Synapse while `use` runs. */
export const withSynapse = async <A>(
  python: string,
  roomVersion: string,
  use: (server: Server) => Promise<A>
): Promise<A> => {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-clients-"))
  const port = await freePort()
  const serverName = "synapse.test"
  const synapse = await Synapse.start({ python, directory, serverName, port, settings: settings(roomVersion) })
  try {
    return await use({ name: "synapse", url: synapse.url, serverName, roomVersion })
  } finally {
    await synapse.stop()
    await fs.rm(directory, { recursive: true, force: true })
  }
}

/** Runs Greenroom, with a database of its own, while `use` runs. */
export const withGreenroom = <A>(roomVersion: string, use: (server: Server) => Promise<A>): Promise<A> =>
  GatewayProcess.temporaryDirectory.pipe(
    Effect.flatMap((dataDir) =>
      GatewayProcess.start({ dataDir, environment: { GREENROOM_DEFAULT_ROOM_VERSION: roomVersion } })
    ),
    Effect.flatMap(({ url }) =>
      Effect.promise(() => use({ name: "greenroom", url, serverName: GatewayProcess.serverName, roomVersion }))
    ),
    Effect.scoped,
    Effect.runPromise
  )
