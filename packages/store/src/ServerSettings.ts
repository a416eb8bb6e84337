/**
 * The identity of a home server: its name, and secrets that are made on the first start and shared by all nodes. A database
 * belongs to one server name, which all its IDs contain.
 */
import { randomBytes } from "node:crypto"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"

/** The database was made for another server name. */
export class ServerNameMismatch extends Data.TaggedError("ServerNameMismatch")<{ readonly message: string }> {}

const make = Effect.fnUntraced(function* (
  serverName: ServerName
): Effect.fn.Return<ServerSettings["Service"], SqlError.SqlError | ServerNameMismatch, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient

  /** Two nodes that write it at once both get what one of them wrote. */
  const getOrWrite = Effect.fnUntraced(function* (name: string, value: string) {
    yield* sql`INSERT INTO server_settings (name, value) VALUES (${name}, ${value}) ON CONFLICT (name) DO NOTHING`
    const rows = yield* sql<{ value: string }>`SELECT value FROM server_settings WHERE name = ${name}`
    return rows[0]!.value
  })

  const stored = yield* getOrWrite("server_name", serverName)
  if (stored !== serverName) {
    return yield* new ServerNameMismatch({
      message: `The database belongs to the server name ${stored}, not ${serverName}: a server name cannot be changed. Choose ${stored}, or another database.`
    })
  }

  const secret = Effect.fnUntraced(function* (name: string) {
    const text = yield* getOrWrite(`secret.${name}`, randomBytes(32).toString("base64url"))
    return Redacted.make<Uint8Array>(Buffer.from(text, "base64url"), { label: name })
  }, Effect.orDie)

  return { serverName, secret }
})

export class ServerSettings extends Context.Service<
  ServerSettings,
  {
    readonly serverName: ServerName
    /** 32 random bytes, made when first asked for and the same ever after. For example `room_id`, `turn`. */
    readonly secret: (name: string) => Effect.Effect<Redacted.Redacted<Uint8Array>>
  }
>()("greenroom/store/ServerSettings") {
  /** Checks that the database belongs to this server name. */
  static readonly layer = (
    serverName: ServerName
  ): Layer.Layer<ServerSettings, SqlError.SqlError | ServerNameMismatch, SqlClient.SqlClient> =>
    Layer.effect(ServerSettings, make(serverName))
}
