/** A gateway whose connections to the database can be cut. */
import type { HomeServerOptions } from "@greenroom/actors/HomeServer"
import * as Database from "@greenroom/store/Database"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer } from "effect"
import { gatewayOnDatabase } from "../TestGateway.ts"

/** The connections of the gateway to its database. */
export class DatabaseLink extends Context.Service<DatabaseLink, CuttableDatabase.CuttableDatabase>()(
  "greenroom/gateway/test/DatabaseLink"
) {}

const database = Layer.unwrap(
  Effect.gen(function* () {
    const link = yield* CuttableDatabase.make(yield* TestDatabase.url)
    return Layer.merge(Database.pool({ url: link.url, maxConnections: 6 }), Layer.succeed(DatabaseLink, link))
  })
)

export const cuttableGateway = (home: Partial<HomeServerOptions> = {}) =>
  gatewayOnDatabase({}, home).pipe(Layer.provideMerge(database))
