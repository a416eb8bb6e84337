/**
 * Dendrite as a process on loopback: SQLite, open registration, TLS by a self-signed certificate towards other servers.
 *
 *     go install github.com/matrix-org/dendrite/cmd/dendrite@v0.13.8
 *
 * The program is that in `GOBIN`, `$HOME/go/bin`, or the one that `DENDRITE` names.
 */
import { execFile, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { access, mkdir, writeFile } from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { generate } from "selfsigned"

const version = "v0.13.8"
const module = `github.com/matrix-org/dendrite/cmd/dendrite@${version}`

/** The newest supported room version. */
export const newestRoomVersion = 11

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false
  )

/** The program, which Go builds if necessary. Fails without Go. */
export const installDendrite = async (): Promise<string> => {
  const named = process.env.DENDRITE ?? path.join(process.env.GOBIN ?? path.join(os.homedir(), "go", "bin"), "dendrite")
  if (await exists(named)) return named
  await promisify(execFile)("go", ["install", module], { timeout: 15 * 60_000 })
  if (await exists(named)) return named
  throw new Error(`go install ${module} has left no ${named}`)
}

/** A new signing key. An installation anew has another key, which must not have the ID of the former one. */
const newSigningKey = () => {
  const [id, seed] = [randomBytes(4).toString("hex"), randomBytes(32).toString("base64")]
  const label = "MATRIX PRIVATE KEY"
  return `-----BEGIN ${label}-----\nKey-ID: ed25519:${id}\n\n${seed}\n-----END ${label}-----\n`
}

export interface DendriteOptions {
  readonly program: string
  readonly directory: string
  readonly serverName: string
  /** The port of the client API, over HTTP. */
  readonly port: number
  /** The port of the federation API, over TLS. */
  readonly tlsPort: number
}

const configuration = ({ directory, serverName }: DendriteOptions) => {
  const database = (name: string) => ({ database: { connection_string: `file:${path.join(directory, `${name}.db`)}` } })
  return {
    version: 2,
    global: {
      server_name: serverName,
      private_key: path.join(directory, "matrix_key.pem"),
      key_validity_period: "168h0m0s",
      well_known_server_name: "",
      jetstream: { storage_path: directory, topic_prefix: "Interop" },
      presence: { enable_inbound: true, enable_outbound: true },
      report_stats: { enabled: false }
    },
    app_service_api: { config_files: [] },
    client_api: { registration_disabled: false, guests_disabled: true, rate_limiting: { enabled: false } },
    federation_api: {
      ...database("federation"),
      disable_tls_validation: true,
      send_max_retries: 16,
      key_perspectives: [],
      deny_networks: [],
      allow_networks: ["0.0.0.0/0", "::/0"]
    },
    key_server: database("keys"),
    media_api: { ...database("media"), base_path: path.join(directory, "media") },
    mscs: { mscs: ["msc2836"], ...database("mscs") },
    relay_api: database("relay"),
    room_server: database("rooms"),
    sync_api: { ...database("sync"), search: { enabled: false, index_path: path.join(directory, "search") } },
    user_api: {
      account_database: { connection_string: `file:${path.join(directory, "accounts.db")}` },
      device_database: { connection_string: `file:${path.join(directory, "devices.db")}` }
    },
    logging: [{ type: "std", level: process.env.INTEROP_LOG === undefined ? "warn" : "info" }]
  }
}

/** The forward extremities of a room, as Dendrite has stored them. */
export const extremitiesIn = (directory: string, room: string): ReadonlyArray<string> => {
  const database = new DatabaseSync(path.join(directory, "rooms.db"), { readOnly: true, timeout: 10_000 })
  try {
    const sql = `
      SELECT event_id FROM roomserver_events WHERE event_nid IN (
        SELECT value FROM roomserver_rooms, json_each(latest_event_nids) WHERE room_id = ?)`
    return database
      .prepare(sql)
      .all(room)
      .map((row) => String(row.event_id))
  } finally {
    database.close()
  }
}

/** Starts it, and waits until it answers clients. */
export const startDendriteProcess = async (
  options: DendriteOptions
): Promise<{ readonly stop: () => Promise<void> }> => {
  const { directory, port, program, tlsPort } = options
  await mkdir(directory, { recursive: true })
  const file = (name: string) => path.join(directory, name)
  const certificate = await generate([{ name: "commonName", value: "localhost" }], { keySize: 2048 })
  await writeFile(file("tls.crt"), certificate.cert)
  await writeFile(file("tls.key"), certificate.private)
  if (!(await exists(file("matrix_key.pem")))) await writeFile(file("matrix_key.pem"), newSigningKey())
  await writeFile(file("dendrite.yaml"), JSON.stringify(configuration(options)))
  const child = spawn(
    program,
    [
      ...["--config", file("dendrite.yaml"), "--really-enable-open-registration"],
      ...["--http-bind-address", `127.0.0.1:${port}`, "--https-bind-address", `127.0.0.1:${tlsPort}`],
      ...["--tls-cert", file("tls.crt"), "--tls-key", file("tls.key")]
    ],
    { cwd: directory, stdio: ["ignore", "pipe", "pipe"] }
  )
  let output = ""
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-100_000)
    if (process.env.INTEROP_LOG !== undefined) process.stderr.write(chunk)
  }
  child.stdout.on("data", keep)
  child.stderr.on("data", keep)
  const endWithUs = () => child.kill("SIGKILL")
  process.once("exit", endWithUs)
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const url = `http://127.0.0.1:${port}/_matrix/client/versions`
  const isUp = async () => (await fetch(url).catch(() => undefined))?.ok === true
  while (!(await isUp())) {
    if (child.exitCode !== null) throw new Error(`Dendrite ended: ${output}`)
    await delay(200)
  }
  return {
    stop: async () => {
      process.off("exit", endWithUs)
      child.kill("SIGTERM")
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000)
      await ended
      clearTimeout(timer)
    }
  }
}
