/**
 * Home servers as processes on loopback with TLS, for scenes in which several take part: Greenroom as an operator runs it,
 * and servers that others wrote. Each is reached by the others through a link that can be cut.
 */
import { spawn } from "node:child_process"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import type { Registered } from "../../support/Synapse.ts"
import * as Synapse from "../../support/Synapse.ts"
import { Link } from "../synapse/Link.ts"
import { Person } from "../synapse/Person.ts"
import { newestRoomVersion, startDendriteProcess } from "./Dendrite.ts"

/** A server under test. */
export interface Server {
  readonly kind: "greenroom" | "synapse" | "dendrite"
  /** Its server name. */
  readonly name: string
  readonly link: Link
  /** The newest room version that it speaks, where that is not 12. */
  readonly newestRoomVersion?: number
  readonly person: (name: string) => Promise<Person>
  /** The forward extremities of a room. */
  readonly extremities: (room: string) => Promise<ReadonlyArray<string>>
  readonly stop: () => Promise<void>
}

const program = fileURLToPath(new URL("../../../apps/gateway/src/main.ts", import.meta.url))
const password = "correct horse battery staple"

/** Registers by today's client API. */
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

/** Asks by the administration API of Synapse, which Greenroom has too. */
const extremitiesBy = (url: string) => {
  let admin: Promise<Registered> | undefined
  return async (room: string): Promise<ReadonlyArray<string>> => {
    admin ??= Synapse.registerAt(url)("caretaker", password, true)
    const path = `/_synapse/admin/v1/rooms/${encodeURIComponent(room)}/forward_extremities`
    const response = await fetch(url + path, { headers: { authorization: `Bearer ${(await admin).access_token}` } })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    const { results } = (await response.json()) as { readonly results: ReadonlyArray<{ readonly event_id: string }> }
    return results.map(({ event_id }) => event_id)
  }
}

/** Starts Greenroom; others reach it at `port`, its own listeners are beside. */
export const startGreenroom = async (directory: string, port: number): Promise<Server> => {
  const name = `localhost:${port}`
  const link = new Link(port, port + 10)
  const child = spawn(
    process.execPath,
    [
      program,
      ...["--server-name", name, "--port", `${port + 20}`, "--data-dir", path.join(directory, `greenroom-${port}`)],
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
  const url = `http://127.0.0.1:${port + 20}`
  const isUp = async () => (await fetch(`${url}/health`).catch(() => undefined))?.ok === true
  while (!(await isUp())) {
    if (child.exitCode !== null) throw new Error(`Greenroom ended: ${output}`)
    await delay(200)
  }
  await link.up()
  return {
    kind: "greenroom",
    name,
    link,
    person: async (localpart) => new Person(url, await registerAt(url, localpart)),
    extremities: extremitiesBy(url),
    stop: async () => {
      process.off("exit", endWithUs)
      await link.down()
      child.kill("SIGTERM")
      await ended
    }
  }
}

/** Starts Synapse from PyPI; others reach it at `port`. */
export const startSynapse = async (python: string, directory: string, port: number): Promise<Server> => {
  const link = new Link(port, port + 10)
  const synapse = await Synapse.start({
    python,
    directory: path.join(directory, `synapse-${port}`),
    serverName: `localhost:${port}`,
    port: port + 20,
    tlsPort: port + 10,
    settings: { allow_public_rooms_over_federation: true, enable_search: false }
  })
  await link.up()
  return {
    kind: "synapse",
    name: synapse.serverName,
    link,
    person: async (localpart) => new Person(synapse.url, await synapse.register(localpart, password)),
    extremities: extremitiesBy(synapse.url),
    stop: async () => {
      await link.down()
      await synapse.stop()
    }
  }
}

/** Starts Dendrite; others reach it at `port`. */
export const startDendrite = async (program: string, directory: string, port: number): Promise<Server> => {
  const link = new Link(port, port + 10)
  const name = `localhost:${port}`
  const dendrite = await startDendriteProcess({
    program,
    directory: path.join(directory, `dendrite-${port}`),
    serverName: name,
    port: port + 20,
    tlsPort: port + 10
  })
  const url = `http://127.0.0.1:${port + 20}`
  await link.up()
  return {
    kind: "dendrite",
    name,
    link,
    newestRoomVersion,
    person: async (localpart) => new Person(url, await registerAt(url, localpart)),
    extremities: async (room) => dendrite.extremities(room),
    stop: async () => {
      await link.down()
      await dendrite.stop()
    }
  }
}
