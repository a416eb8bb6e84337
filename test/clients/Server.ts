/** The servers under test: Greenroom, and Synapse as the control. */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Scope } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import * as SeveralNodes from "../support/SeveralNodes.ts"
import * as Synapse from "../support/Synapse.ts"
import { type Operator, searchEverything } from "./Operator.ts"

export interface Server {
  readonly name: "synapse" | "greenroom"
  readonly url: string
  readonly serverName: string
  /** The default version of new rooms. */
  readonly roomVersion: string
  /** The operator's actions, if the server belongs to one flow. */
  readonly operator?: Operator
}

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
  const port = await Effect.runPromise(freePort)
  const serverName = "synapse.test"
  const synapse = await Synapse.start({ python, directory, serverName, port, settings: settings(roomVersion) })
  try {
    return await use({ name: "synapse", url: synapse.url, serverName, roomVersion })
  } finally {
    await synapse.stop()
    await fs.rm(directory, { recursive: true, force: true, maxRetries: 10 })
  }
}

/** Starts Greenroom on a fixed port, with an operator that can restart it. */
const startGreenroom = Effect.fnUntraced(function* (roomVersion: string) {
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const port = yield* freePort
  const environment = { GREENROOM_DEFAULT_ROOM_VERSION: roomVersion }
  // Several nodes share a database outside of them.
  const database =
    SeveralNodes.count === 1
      ? {}
      : { databaseUrl: (yield* EmbeddedPostgres.make({ dataDir, settings: { max_connections: "100" } })).url }
  const start = SeveralNodes.start({ dataDir, port, environment, ...database })
  const scope = yield* Effect.scope
  let gateway = yield* start
  const killAndRestart = Effect.gen(function* () {
    yield* gateway.kill
    gateway = yield* Scope.provide(start, scope)
  })
  const operator: Operator = {
    killAndRestart: () => Effect.runPromise(killAndRestart),
    search: (text) => searchEverything(dataDir, text)
  }
  return { name: "greenroom", url: gateway.url, serverName: GatewayProcess.serverName, roomVersion, operator } as const
})

/** Runs Greenroom, with a database of its own, while `use` runs. */
export const withGreenroom = <A>(roomVersion: string, use: (server: Required<Server>) => Promise<A>): Promise<A> =>
  startGreenroom(roomVersion).pipe(
    Effect.flatMap((server) => Effect.promise(() => use(server))),
    Effect.scoped,
    Effect.runPromise
  )
