/**
 * Starts one PostgreSQL for a run of vitest, in a directory for temporary files, with a migrated template database
 * from which `TestDatabase` makes each test file its own. Forgetting what a power failure would lose is its only
 * difference to the server that operators run.
 */

import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import type { TestProject } from "vitest/node"
import * as Database from "../Database.ts"
import { EmbeddedPostgres } from "../EmbeddedPostgres.ts"

declare module "vitest" {
  export interface ProvidedContext {
    /** The URL of the database `postgres`, as superuser. */
    readonly greenroomPostgres: string
    /** The name of the migrated database to copy. */
    readonly greenroomTemplate: string
  }
}

const settings = { fsync: "off", max_connections: "200" }

export const setup = async (project: TestProject) => {
  const dataDir = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-test-"))
  await fs.chmod(dataDir, 0o711)
  const scope = await Effect.runPromise(Scope.make())
  const teardown = async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await fs.rm(dataDir, { recursive: true, force: true })
  }
  try {
    const server = await Effect.runPromise(EmbeddedPostgres.make({ dataDir, settings }).pipe(Scope.provide(scope)))
    await Effect.runPromise(Effect.scoped(Layer.build(Database.migrated({ url: server.url, maxConnections: 1 }))))
    project.provide("greenroomPostgres", Redacted.value(server.adminUrl))
    project.provide("greenroomTemplate", "greenroom")
  } catch (error) {
    await teardown()
    throw error
  }
  return teardown
}
