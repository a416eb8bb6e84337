/** Home servers as processes on loopback with TLS: Greenroom, Synapse and Dendrite, each behind a link that can be taken down. */
import { execFile, spawn } from "node:child_process"
import { readFile, rm } from "node:fs/promises"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import * as GatewayProcess from "../../support/GatewayProcess.ts"
import type { Registered } from "../../support/Synapse.ts"
import * as Synapse from "../../support/Synapse.ts"
import { Link } from "../synapse/Link.ts"
import { Person } from "../synapse/Person.ts"
import { extremitiesIn, newestRoomVersion, startDendriteProcess } from "./Dendrite.ts"

/** A server under test. */
export interface Server {
  readonly kind: "greenroom" | "synapse" | "dendrite"
  /** Its server name. */
  readonly name: string
  readonly link: Link
  /** The newest supported room version, if not 12. */
  readonly newestRoomVersion?: number
  readonly person: (name: string) => Promise<Person>
  /** The forward extremities of a room. */
  readonly extremities: (room: string) => Promise<ReadonlyArray<string>>
  /** Ends the server, and starts it again: after a backup of its data, with the data of that backup, or without data. */
  readonly restart: (how: Restart) => Promise<void>
  readonly stop: () => Promise<void>
}

export type Restart = "backup" | "restore" | "anew"

/** The change to the directory of a server between its end and its start. */
const exchange = async (directory: string, how: Restart): Promise<void> => {
  const copy = `${directory}-backup`
  const [from, to] = how === "backup" ? [directory, copy] : [copy, directory]
  await rm(to, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 })
  // PostgreSQL does not run as root: its files keep their owner.
  if (how !== "anew") await promisify(execFile)("cp", ["-a", from, to])
}

const password = "correct horse battery staple"

/** Registers by the current client API. */
const registerAt = async (url: string, username: string): Promise<Registered> => {
  const ask = async (auth?: object) =>
    fetch(`${url}/_matrix/client/v3/register`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, password, ...(auth === undefined ? {} : { auth }) })
    })
  const first = (await (await ask()).json()) as { readonly session: string }
  const response = await ask({ type: "m.login.dummy", session: first.session })
  if (!response.ok) throw new Error(`Registration of ${username} failed: ${await response.text()}`)
  return (await response.json()) as Registered
}

const unlimited = Object.fromEntries(
  ["REGISTRATIONS", "LOGINS", "SENDS", "REQUESTS", "ANONYMOUS"].map((kind) => [`GREENROOM_RATE_LIMITS_${kind}`, "off"])
)

/** Forward extremities by the administration API of Synapse, which Greenroom supports. */
const extremitiesBy = (url: string) => {
  let admin: Promise<Registered> | undefined
  const ask = async (path: string): Promise<Response> => {
    admin ??= Synapse.registerAt(url)("caretaker", password, true)
    return fetch(url + path, { headers: { authorization: `Bearer ${(await admin).access_token}` } })
  }
  return async (room: string): Promise<ReadonlyArray<string>> => {
    const path = `/_synapse/admin/v1/rooms/${encodeURIComponent(room)}/forward_extremities`
    let response = await ask(path)
    if (response.status === 401) {
      // The server was installed anew, or restored from before the registration.
      admin = undefined
      response = await ask(path)
    }
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    const { results } = (await response.json()) as { readonly results: ReadonlyArray<{ readonly event_id: string }> }
    return results.map(({ event_id }) => event_id)
  }
}

/** The process of a server. `kill` ends it like a power failure. */
interface Running {
  readonly stop: () => Promise<void>
  readonly kill: () => Promise<void>
}

const startGreenroomProcess = async (name: string, dataDir: string, port: number): Promise<Running> => {
  const child = spawn(
    process.execPath,
    [
      ...GatewayProcess.npmStart,
      ...["--server-name", name, "--port", `${port + 20}`, "--data-dir", dataDir],
      ...["--federation-port", `${port + 10}`, "--no-federation-verify"]
    ],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        GREENROOM_REGISTRATION_SHARED_SECRET: Synapse.sharedSecret,
        ...unlimited
      }
    }
  )
  let output = ""
  const keep = (chunk: Buffer) => {
    output += chunk.toString()
    if (process.env.INTEROP_LOG !== undefined) process.stderr.write(chunk)
  }
  child.stdout.on("data", keep)
  child.stderr.on("data", keep)
  const endWithUs = () => child.kill("SIGKILL")
  process.once("exit", endWithUs)
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const isUp = async () => (await fetch(`http://127.0.0.1:${port + 20}/health`).catch(() => undefined))?.ok === true
  while (!(await isUp())) {
    if (child.exitCode !== null) throw new Error(`Greenroom ended: ${output}`)
    await delay(200)
  }
  const end = async (signal: "SIGTERM" | "SIGKILL") => {
    process.off("exit", endWithUs)
    child.kill(signal)
    await ended
  }
  const kill = async () => {
    const postmaster = await readFile(path.join(dataDir, "postgres", "postmaster.pid"), "utf8")
    await end("SIGKILL")
    process.kill(Number.parseInt(postmaster, 10), "SIGKILL")
  }
  return { stop: () => end("SIGTERM"), kill }
}

/** A server at `port` whose process runs behind a link, and can be ended and started again. */
const behindLink = async (
  directory: string,
  port: number,
  start: () => Promise<Running>
): Promise<Pick<Server, "link" | "restart" | "stop">> => {
  const link = new Link(port, port + 10)
  let running = await start()
  await link.up()
  return {
    link,
    restart: async (how) => {
      await link.down()
      await (how === "backup" ? running.stop() : running.kill())
      await exchange(directory, how)
      running = await start()
      await link.up()
    },
    stop: async () => {
      await link.down()
      await running.stop()
    }
  }
}

/** Starts Greenroom, which others reach at `port`. */
export const startGreenroom = async (directory: string, port: number): Promise<Server> => {
  const name = `localhost:${port}`
  const url = `http://127.0.0.1:${port + 20}`
  const dataDir = path.join(directory, `greenroom-${port}`)
  return {
    kind: "greenroom",
    name,
    ...(await behindLink(dataDir, port, () => startGreenroomProcess(name, dataDir, port))),
    person: async (localpart) => new Person(url, await registerAt(url, localpart)),
    extremities: extremitiesBy(url)
  }
}

/** Starts Synapse from PyPI, which others reach at `port`. */
export const startSynapse = async (python: string, directory: string, port: number): Promise<Server> => {
  const url = `http://127.0.0.1:${port + 20}`
  const serverName = `localhost:${port}`
  const own = path.join(directory, `synapse-${port}`)
  const start = async (): Promise<Running> => {
    const synapse = await Synapse.start({
      python,
      directory: own,
      serverName,
      port: port + 20,
      tlsPort: port + 10,
      settings: {
        allow_public_rooms_over_federation: true,
        room_list_publication_rules: [{ action: "allow" }],
        enable_search: false
      }
    })
    return { stop: synapse.stop, kill: synapse.stop }
  }
  return {
    kind: "synapse",
    name: serverName,
    ...(await behindLink(own, port, start)),
    person: async (localpart) => new Person(url, await Synapse.registerAt(url)(localpart, password)),
    extremities: extremitiesBy(url)
  }
}

/** Starts Dendrite, which others reach at `port`. */
export const startDendrite = async (program: string, directory: string, port: number): Promise<Server> => {
  const name = `localhost:${port}`
  const own = path.join(directory, `dendrite-${port}`)
  const options = { program, directory: own, serverName: name, port: port + 20, tlsPort: port + 10 }
  const url = `http://127.0.0.1:${port + 20}`
  const start = async (): Promise<Running> => {
    const { stop } = await startDendriteProcess(options)
    return { stop, kill: stop }
  }
  return {
    kind: "dendrite",
    name,
    ...(await behindLink(own, port, start)),
    newestRoomVersion,
    person: async (localpart) => new Person(url, await registerAt(url, localpart)),
    extremities: async (room) => extremitiesIn(own, room)
  }
}
