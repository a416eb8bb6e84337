/**
 * Synapse from PyPI as a process on loopback: installed into a virtual environment, configured without rate limits, with
 * registration by a shared secret, SQLite, and TLS by a self-signed certificate towards other servers.
 *
 * Synapse runs as a program only; no code of ours is linked with it.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { createHash, createHmac } from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { generate } from "selfsigned"

const run = promisify(execFile)

export const synapseVersion = "1.163.2"

/** The directory of a virtual environment, in the home directory. */
export const environmentDirectory = (name: string): string => path.join(os.homedir(), ".cache", "greenroom", name)

/** Installs packages into a virtual environment. Returns its interpreter, and fails with a reason if Python is missing. */
export const installPython = async (name: string, packages: ReadonlyArray<string>): Promise<string> => {
  const directory = environmentDirectory(name)
  const python = path.join(directory, "bin", "python")
  const marker = path.join(directory, "installed.json")
  const wanted = JSON.stringify(packages)
  if ((await fs.readFile(marker, "utf8").catch(() => "")) === wanted) return python
  await run("python3", ["-m", "venv", directory]).catch((error) => {
    throw new Error(`Python 3 with venv is needed (Debian: python3-venv): ${error.message}`)
  })
  await run(python, ["-m", "pip", "install", "--quiet", ...packages], { maxBuffer: 1 << 26 })
  await fs.writeFile(marker, wanted)
  return python
}

const pythonPackage = `matrix-synapse==${synapseVersion}`

/** The interpreter of a virtual environment that has Synapse. */
export const install = (): Promise<string> => installPython(`synapse-${synapseVersion}`, [pythonPackage])

/** The same with the driver for PostgreSQL. */
export const installWithPostgres = (): Promise<string> =>
  installPython(`synapse-${synapseVersion}-postgres`, [pythonPackage, "psycopg2-binary"])

export interface SynapseOptions {
  /** Of an environment with Synapse, from {@link install}. */
  readonly python: string
  /** Holds configuration, database, media and log. */
  readonly directory: string
  readonly serverName: string
  /** Of the client and federation APIs over HTTP. */
  readonly port: number
  /** Of the federation API over TLS. Absent: none. */
  readonly tlsPort?: number
  /** Settings of `homeserver.yaml` that replace the defaults here. */
  readonly settings?: { readonly [name: string]: unknown }
}

export interface Synapse {
  readonly serverName: string
  readonly url: string
  readonly pid: number
  /** Path of the SQLite file. */
  readonly database: string
  /** Seed of its Ed25519 signing key `ed25519:fixture`: equal for every run of a server of this name. */
  readonly signingSeed: Buffer
  readonly register: (user: string, password: string, admin?: boolean) => Promise<Registered>
  readonly stop: () => Promise<void>
}

export interface Registered {
  readonly user_id: string
  readonly access_token: string
  readonly device_id: string
}

export const sharedSecret = "interop"

const many = { per_second: 100_000, burst_count: 100_000 }

const unlimited = {
  rc_message: many,
  rc_registration: many,
  rc_registration_token_validity: many,
  rc_login: { address: many, account: many, failed_attempts: many },
  rc_admin_redaction: many,
  rc_joins: { local: many, remote: many },
  rc_joins_per_room: many,
  rc_key_requests: many,
  rc_3pid_validation: many,
  rc_invites: { per_room: many, per_user: many, per_issuer: many },
  rc_third_party_invite: many,
  rc_media_create: many,
  rc_presence: { per_user: many },
  rc_delayed_event_mgmt: many,
  rc_room_creation: many,
  rc_reports: many,
  rc_user_directory: many,
  rc_profile: many,
  rc_federation: { window_size: 1000, sleep_limit: 100_000, sleep_delay: 1, reject_limit: 100_000, concurrent: 20 },
  federation_rr_transactions_per_room_per_second: 10_000
}

const listener = (port: number, tls: boolean) => ({
  port,
  tls,
  type: "http",
  bind_addresses: ["127.0.0.1"],
  resources: [{ names: ["client", "federation"] }]
})

/** The back-off after an unreachable server, in milliseconds; Synapse varies it by up to 40 %. */
export const retryInterval = 100

/** The configuration as JSON, which is valid YAML. */
const configuration = ({ directory, port, serverName, settings, tlsPort }: SynapseOptions) => ({
  server_name: serverName,
  public_baseurl: `http://127.0.0.1:${port}/`,
  pid_file: path.join(directory, "homeserver.pid"),
  listeners: [listener(port, false), ...(tlsPort === undefined ? [] : [listener(tlsPort, true)])],
  tls_certificate_path: path.join(directory, "tls.crt"),
  tls_private_key_path: path.join(directory, "tls.key"),
  database: { name: "sqlite3", args: { database: path.join(directory, "homeserver.db") } },
  media_store_path: path.join(directory, "media"),
  signing_key_path: path.join(directory, "signing.key"),
  log_config: path.join(directory, "log.yaml"),
  registration_shared_secret: sharedSecret,
  macaroon_secret_key: sharedSecret,
  form_secret: sharedSecret,
  report_stats: false,
  suppress_key_server_warning: true,
  trusted_key_servers: [],
  federation_verify_certificates: false,
  ip_range_blacklist: [],
  federation_ip_range_blacklist: [],
  federation: {
    client_timeout: "10s",
    max_short_retries: 0,
    max_long_retries: 0,
    destination_min_retry_interval: retryInterval,
    destination_retry_multiplier: 1,
    destination_max_retry_interval: retryInterval
  },
  ...unlimited,
  ...settings
})

const logging = (directory: string) => ({
  version: 1,
  disable_existing_loggers: false,
  formatters: { line: { format: "%(asctime)s %(name)s %(lineno)d %(levelname)s %(request)s %(message)s" } },
  handlers: {
    file: { class: "logging.FileHandler", formatter: "line", filename: path.join(directory, "homeserver.log") }
  },
  root: { level: "INFO", handlers: ["file"] }
})

const writeConfiguration = async (options: SynapseOptions, signingSeed: Buffer): Promise<string> => {
  const { directory } = options
  await fs.mkdir(directory, { recursive: true })
  const certificate = await generate([{ name: "commonName", value: "localhost" }], { keySize: 2048 })
  const file = path.join(directory, "homeserver.yaml")
  await fs.writeFile(path.join(directory, "tls.crt"), certificate.cert)
  await fs.writeFile(path.join(directory, "tls.key"), certificate.private)
  await fs.writeFile(path.join(directory, "log.yaml"), JSON.stringify(logging(directory)))
  await fs.writeFile(
    path.join(directory, "signing.key"),
    `ed25519 fixture ${signingSeed.toString("base64").replace(/=+$/, "")}\n`
  )
  await fs.writeFile(file, JSON.stringify(configuration(options), null, 2))
  return file
}

const waitUntilServing = async (url: string, child: ChildProcess, output: () => string): Promise<void> => {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (child.exitCode !== null) throw new Error(`Synapse ended: ${output()}`)
    const response = await fetch(`${url}/_matrix/client/versions`).catch(() => undefined)
    if (response?.ok === true) return
    await delay(100)
  }
  throw new Error(`Synapse does not serve ${url} after a minute: ${output()}`)
}

/** Registers by the shared secret, as `register_new_matrix_user` does; also at a Greenroom that has the secret. */
export const registerAt =
  (url: string) =>
  async (user: string, password: string, admin = false): Promise<Registered> => {
    const endpoint = `${url}/_synapse/admin/v1/register`
    const { nonce } = (await (await fetch(endpoint)).json()) as { readonly nonce: string }
    const mac = createHmac("sha1", sharedSecret)
      .update([nonce, user, password, admin ? "admin" : "notadmin"].join("\0"))
      .digest("hex")
    const response = await fetch(endpoint, {
      method: "POST",
      body: JSON.stringify({ nonce, username: user, password, admin, mac })
    })
    if (!response.ok) throw new Error(`Registration of ${user} failed: ${await response.text()}`)
    return (await response.json()) as Registered
  }

/** Starts Synapse and waits until it serves. */
export const start = async (options: SynapseOptions): Promise<Synapse> => {
  const signingSeed = createHash("sha256").update(`greenroom interop ${options.serverName}`).digest()
  const file = await writeConfiguration(options, signingSeed)
  const child = spawn(options.python, ["-m", "synapse.app.homeserver", "-c", file], {
    cwd: options.directory,
    stdio: ["ignore", "pipe", "pipe"]
  })
  let output = ""
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-10_000)
  }
  child.stdout.on("data", keep)
  child.stderr.on("data", keep)
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const endWithUs = () => child.kill("SIGKILL")
  process.once("exit", endWithUs)
  const stop = async () => {
    process.off("exit", endWithUs)
    child.kill("SIGTERM")
    const late = setTimeout(() => child.kill("SIGKILL"), 10_000)
    await ended
    clearTimeout(late)
  }
  const url = `http://127.0.0.1:${options.port}`
  try {
    await waitUntilServing(url, child, () => output)
  } catch (error) {
    await stop()
    throw error
  }
  return {
    serverName: options.serverName,
    url,
    pid: child.pid!,
    database: path.join(options.directory, "homeserver.db"),
    signingSeed,
    register: registerAt(url),
    stop
  }
}
