/**
 * The checks of the database: it answers, is writable, belongs to this server, and its clock is right.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type AppliedMigration, migrationsProblem } from "@greenroom/store/AppliedMigrations"
import { withClient } from "@greenroom/store/Backup"
import { migrationNames, newestMigration } from "@greenroom/store/Database"
import { databaseRemedy, isRefusal } from "@greenroom/store/DatabaseRemedy"
import { unfinishedTable } from "@greenroom/store/UnfinishedRestore"
import { Effect, type Redacted } from "effect"
import type { GatewayConfig } from "../../GatewayConfig.ts"
import { afterwards, compareClocks, compareRecords, type Finding, failure, ok, reasonOf, warning } from "./Finding.ts"

type Client = Parameters<Parameters<typeof withClient>[1]>[0]

export interface DatabaseState {
  readonly findings: ReadonlyArray<Finding>
  /** Whether a server holds the database. */
  readonly isRunning: boolean
  /** A few of the servers that were reached last. */
  readonly peers: ReadonlyArray<ServerName>
}

/** The age in seconds from which an open transaction is a fault. Others last milliseconds. */
const maxAge = 60

const checkWrites = async (client: Client, isRunning: boolean): Promise<Finding> => {
  try {
    await client.query("BEGIN")
    await client.query("CREATE TABLE greenroom_doctor (data text)")
    // CREATE TABLE has it from PostgreSQL 16 on.
    await client.query("ALTER TABLE greenroom_doctor ALTER data SET STORAGE EXTERNAL")
    await client.query(
      "INSERT INTO greenroom_doctor SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 8192)"
    )
    return ok("database", "can be written to")
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code === "25006")
      return failure(
        "database",
        "is read-only",
        "Name the primary server, not a standby, or set default_transaction_read_only = off."
      )
    if (code === "53100")
      return failure(
        "database",
        "has no space left on its disk",
        `Make room on the disk of PostgreSQL. ${afterwards(isRunning)}`
      )
    return failure("database", `cannot be written to: ${message}`, "Let the role create tables in it.")
  } finally {
    await client.query("ROLLBACK").catch(() => {})
  }
}

const checkEncoding = async (client: Client): Promise<ReadonlyArray<Finding>> => {
  const { rows } = await client.query<{ encoding: string }>("SELECT current_setting('server_encoding') AS encoding")
  const { encoding } = rows[0]!
  return encoding === "UTF8"
    ? []
    : [
        failure(
          "database",
          `stores text as ${encoding}, and not as UTF-8`,
          "Make another one (CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0), and name it in database_url."
        )
      ]
}

const checkTables = async (client: Client, serverName: string): Promise<Finding> => {
  const { rows: found } = await client.query(
    "SELECT to_regclass('migrations') IS NOT NULL AND to_regclass('server_settings') IS NOT NULL AS there, to_regclass($1) IS NOT NULL AS unfinished",
    [unfinishedTable]
  )
  if (found[0].unfinished) {
    return failure(
      "database",
      "has half of a backup: a restore was cut off",
      "Run the restore again (greenroom restore)."
    )
  }
  if (!found[0].there) return ok("database", "is empty; the first start makes its tables")
  const { rows: owners } = await client.query<{ owner: string }>(
    "SELECT value AS owner FROM server_settings WHERE name = 'server_name'"
  )
  const owner = owners[0]?.owner
  if (owner !== undefined && owner !== serverName) {
    return failure(
      "database",
      `belongs to the server ${owner}, and the settings say ${serverName}`,
      "Set server_name to the former, or name another database."
    )
  }
  const { rows: applied } = await client.query<AppliedMigration>("SELECT migration_id AS id, name FROM migrations")
  const problem = migrationsProblem(applied, migrationNames)
  if (problem !== undefined) return failure("database", problem.found, problem.remedy)
  const version = Math.max(...applied.map(({ id }) => id))
  return version < newestMigration
    ? warning(
        "database",
        `is of version ${version}, and will be migrated to ${newestMigration}`,
        "Take a backup before you start the new version."
      )
    : ok("database", `is of version ${version}`)
}

const checkTransactions = async (client: Client): Promise<Finding> => {
  const { rows } = await client.query<{ pid: number; seconds: number; name: string }>(`
    SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds, application_name AS name
    FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY xact_start LIMIT 1`)
  const [oldest] = rows
  if (oldest === undefined || oldest.seconds < maxAge) return ok("database", "no transaction holds up messages")
  return failure(
    "database",
    `a transaction of ${oldest.name} (${oldest.pid}) is open for ${Math.round(oldest.seconds)} seconds, and messages wait for it`,
    `End it: SELECT pg_terminate_backend(${oldest.pid}).`
  )
}

const checkDestinations = async (client: Client): Promise<Pick<DatabaseState, "findings" | "peers">> => {
  const { rows: there } = await client.query("SELECT to_regclass('destinations') IS NOT NULL AS there")
  if (!there[0].there) return { findings: [], peers: [] }
  // Where every server fails, this one may be at fault, and they say in what.
  const { rows: reached } = await client.query<{ destination: ServerName }>(`
    SELECT destination FROM destinations WHERE last_success_at IS NOT NULL
      AND (failures = 0 OR NOT EXISTS (SELECT 1 FROM destinations WHERE failures = 0 AND last_success_at IS NOT NULL))
    ORDER BY last_success_at DESC LIMIT 3`)
  const peers = reached.map(({ destination }) => destination)
  const { rows } = await client.query<{ count: number; names: string }>(`
    SELECT count(*)::int AS count, string_agg(destination, ', ') AS names FROM (
      SELECT destination FROM destinations WHERE failures > 0 ORDER BY failures DESC LIMIT 10) AS failing`)
  const { count, names } = rows[0]!
  const finding =
    count === 0
      ? ok("federation", "every server that was tried last has answered")
      : warning(
          "federation",
          `these servers did not answer last: ${names}`,
          "If no server answers, check DNS, the firewall and the certificate. `greenroom doctor --peer NAME` checks one server."
        )
  return { findings: [finding], peers }
}

/** The time of the newest record that this machine has written; undefined where there is none. */
const newestRecord = async (client: Client): Promise<number | undefined> => {
  const { rows: there } = await client.query(
    "SELECT to_regclass('client_transactions') IS NOT NULL AND to_regclass('audit_log') IS NOT NULL AS there"
  )
  if (!there[0].there) return undefined
  const { rows } = await client.query<{ newest: number | null }>(`
    SELECT greatest((SELECT max(created_at) FROM client_transactions),
      (SELECT at FROM audit_log ORDER BY seq DESC LIMIT 1))::float8 AS newest`)
  return rows[0]!.newest ?? undefined
}

/** The clock. The embedded database has that of this machine. */
const checkClock = async (client: Client, { databaseUrl }: GatewayConfig): Promise<ReadonlyArray<Finding>> => {
  if (databaseUrl === undefined) return compareRecords((await newestRecord(client)) ?? 0)
  const begun = performance.now()
  const { rows } = await client.query<{ now: number }>(
    "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now"
  )
  return [compareClocks("the database", rows[0]!.now, performance.now() - begun)]
}

const holders =
  "SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'greenroom%' AND pid <> pg_backend_pid() AND application_name <> 'greenroom backup'"

const examine = async (client: Client, config: GatewayConfig): Promise<DatabaseState> => {
  const { rows } = await client.query<{ version: string }>("SELECT current_setting('server_version') AS version")
  const { rows: running } = await client.query<{ count: number }>(holders)
  const isRunning = running[0]!.count > 0
  const destinations = await checkDestinations(client)
  return {
    isRunning,
    peers: destinations.peers,
    findings: [
      ok("database", `PostgreSQL ${rows[0]!.version} answers`),
      ...(await checkClock(client, config)),
      ...(await checkEncoding(client)),
      await checkWrites(client, isRunning),
      await checkTables(client, config.serverName),
      await checkTransactions(client),
      ...destinations.findings
    ]
  }
}

const faultOf = (error: unknown): Finding => {
  const { code } = error as { readonly code?: string }
  const found = isRefusal(code) ? "refuses" : "does not answer"
  return failure("database", `${found}: ${reasonOf(error)}`, databaseRemedy(code))
}

/** Checks the database, as the user in the settings. */
export const checkDatabase = (url: Redacted.Redacted, config: GatewayConfig): Effect.Effect<DatabaseState> =>
  Effect.catch(
    Effect.tryPromise(() => withClient(url, (client) => examine(client, config))),
    ({ cause }) => Effect.succeed({ isRunning: false, peers: [], findings: [faultOf(cause)] })
  )
