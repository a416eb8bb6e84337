/**
 * The settings of the embedded PostgreSQL: durable, and sized for a small machine. They are written at every start, so
 * that a new version of Greenroom brings its own. An operator's settings belong in `local.conf` beside the file.
 */

/** The port is part of the socket's name; PostgreSQL listens on no port. */
export const postgresPort = 5432

const defaults = {
  listen_addresses: "",
  port: String(postgresPort),
  unix_socket_permissions: "0700",
  max_connections: "50",
  shared_buffers: "128MB",
  effective_cache_size: "512MB",
  work_mem: "8MB",
  maintenance_work_mem: "64MB",
  dynamic_shared_memory_type: "posix",
  io_method: "sync",
  max_parallel_workers_per_gather: "0",
  jit: "off",
  random_page_cost: "1.1",
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  min_wal_size: "80MB",
  max_wal_size: "1GB",
  checkpoint_timeout: "10min",
  idle_in_transaction_session_timeout: "5min",
  timezone: "UTC",
  log_timezone: "UTC",
  log_line_prefix: "%m [%p] ",
  log_error_verbosity: "terse",
  log_min_error_statement: "panic",
  log_checkpoints: "off"
}

const quote = (value: string): string => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

/** The text of `postgresql.conf`; `settings` override the defaults. */
export const postgresSettings = (socketDir: string, settings: Readonly<Record<string, string>>): string => {
  const all = {
    ...defaults,
    unix_socket_directories: `"${socketDir.replaceAll('"', '""')}"`,
    ...settings
  }
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${quote(value)}`)
  return [
    "# Written by Greenroom at every start. Put settings of your own into local.conf in this directory.",
    ...lines,
    "include_if_exists = 'local.conf'",
    ""
  ].join("\n")
}
