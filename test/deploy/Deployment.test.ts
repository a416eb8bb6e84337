/** The deployment of docs/deployment.md with other addresses and certificates: nginx, Caddy, the unit of systemd, and Kubernetes. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs/promises"
import * as https from "node:https"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it, layer } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { generate } from "selfsigned"
import { WebSocket } from "ws"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { installPython } from "../support/Synapse.ts"

const repository = path.resolve(import.meta.dirname, "../..")
const deploy = path.join(repository, "docs/deploy")
const hasProgram = (name: string) => spawnSync("sh", ["-c", `command -v ${name}`]).status === 0

/** A gateway, the port of its federation listener, and a directory with a certificate. */
class DeployedGateway extends Context.Service<
  DeployedGateway,
  { readonly gateway: GatewayProcess.GatewayProcess; readonly federationPort: string; readonly directory: string }
>()("test/deploy/DeployedGateway") {
  static readonly layer = Layer.effect(
    DeployedGateway,
    Effect.gen(function* () {
      const directory = yield* GatewayProcess.temporaryDirectory
      const dataDir = yield* GatewayProcess.temporaryDirectory
      yield* Effect.promise(async () => {
        const { cert, private: key } = await generate([{ name: "commonName", value: "example.org" }], {
          keyType: "ec",
          extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "example.org" }] }]
        })
        await fs.writeFile(path.join(directory, "fullchain.pem"), cert)
        await fs.writeFile(path.join(directory, "privkey.pem"), key)
      })
      const gateway = yield* GatewayProcess.start({
        dataDir,
        databaseUrl: yield* Effect.orDie(TestDatabase.url),
        environment: { GREENROOM_TRUSTED_PROXIES: "127.0.0.1", GREENROOM_PUBLIC_URL: "https://example.org" }
      })
      const [, federationPort = ""] = /reach it on https:\/\/[^"]*:(\d+)/.exec(gateway.output()) ?? []
      return DeployedGateway.of({ gateway, federationPort, directory })
    })
  )
}

interface Answer {
  readonly status: number | undefined
  readonly body: string
}

/** A request by HTTPS to `example.org` at a local port. */
const ask = (port: number, target: string, { method = "GET", body = "", headers = {} } = {}) =>
  Effect.tryPromise(
    () =>
      new Promise<Answer>((resolve, reject) => {
        const options = { port, method, path: target, servername: "example.org", rejectUnauthorized: false }
        const request = https.request({ host: "127.0.0.1", ...options, headers: { host: `example.org`, ...headers } })
        request.once("error", reject).once("response", (response) => {
          let text = ""
          response.setEncoding("utf8").on("data", (chunk) => {
            text += chunk
          })
          response.once("end", () => resolve({ status: response.statusCode, body: text })).once("error", reject)
        })
        request.end(body)
      })
  )

/** Ends a process. */
const end = (child: ChildProcess) =>
  new Promise((resolve) => {
    child.once("exit", resolve)
    child.kill("SIGTERM")
  })

/** Runs a proxy until the scope closes, and waits until it answers at `port`. */
const proxy = Effect.fnUntraced(function* (program: string, args: ReadonlyArray<string>, port: number, home: string) {
  yield* Effect.acquireRelease(
    Effect.sync(() => spawn(program, args, { stdio: "ignore", env: { PATH: process.env.PATH, HOME: home } })),
    (child) => Effect.promise(() => end(child))
  )
  yield* Effect.retry(ask(port, "/health"), Schedule.spaced("100 millis"))
})

/** Opens a socket. Returns its subprotocol. */
const openSocket = (port: number, token: string) =>
  Effect.tryPromise(
    () =>
      new Promise<string>((resolve, reject) => {
        const url = `wss://127.0.0.1:${port}/matrix/client/api/v1/socket?access_token=${token}`
        const socket = new WebSocket(url, "m.json", {
          agent: new https.Agent({ servername: "example.org", rejectUnauthorized: false }),
          headers: { host: "example.org" }
        })
        socket.once("error", reject).once("open", () => {
          resolve(socket.protocol)
          socket.close()
        })
      })
  )

/** Asserts that clients and other home servers reach the gateway through a proxy. */
const assertReachable = Effect.fnUntraced(function* (client: number, federation: number, user: string) {
  const registered = yield* ask(client, "/_matrix/client/v3/register", {
    method: "POST",
    body: JSON.stringify({ username: user, password: "wonderland", auth: { type: "m.login.dummy" } })
  })
  assert.strictEqual(registered.status, 200, registered.body)
  const { access_token: token } = JSON.parse(registered.body)
  const authorization = `Bearer ${token}`
  const upload = yield* ask(client, "/_matrix/media/v3/upload", {
    method: "POST",
    body: "x".repeat(3_000_000),
    headers: { authorization, "content-type": "text/plain" }
  })
  assert.strictEqual(upload.status, 200, upload.body)
  const first = yield* ask(client, "/_matrix/client/v3/sync?timeout=0", { headers: { authorization } })
  const since = JSON.parse(first.body).next_batch
  const poll = yield* Effect.forkChild(
    ask(client, `/_matrix/client/v3/sync?timeout=60000&since=${since}`, { headers: { authorization } })
  )
  const room = yield* ask(client, "/_matrix/client/v3/createRoom", {
    method: "POST",
    body: "{}",
    headers: { authorization }
  })
  const update = yield* Fiber.join(poll)
  assert.property(JSON.parse(update.body).rooms.join, JSON.parse(room.body).room_id)
  assert.strictEqual(yield* openSocket(client, token), "m.json")
  const keys = yield* ask(federation, "/_matrix/key/v2/server")
  assert.strictEqual(JSON.parse(keys.body).server_name, GatewayProcess.serverName)
})

const withCertificates = (directory: string, text: string) => text.replaceAll("/etc/ssl/example.org", directory)

layer(DeployedGateway.layer, { timeout: "2 minutes", excludeTestServices: true })("Deployment", (it) => {
  it.effect.skipIf(!hasProgram("nginx"))("clients and other home servers reach Greenroom through nginx", () =>
    Effect.gen(function* () {
      const { directory, federationPort, gateway } = yield* DeployedGateway
      const [client, federation] = [yield* freePort, yield* freePort]
      const example = yield* Effect.promise(() => fs.readFile(path.join(deploy, "nginx.conf"), "utf8"))
      const server = withCertificates(directory, example)
        .replaceAll(/listen \[::\].*/g, "")
        .replace("listen 443", `listen 127.0.0.1:${client}`)
        .replace("listen 8448", `listen 127.0.0.1:${federation}`)
        .replace("127.0.0.1:8008", `127.0.0.1:${gateway.port}`)
        .replace("https://127.0.0.1:8449", `https://127.0.0.1:${federationPort}`)
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
        (name) => `${name}_temp_path ${directory}/${name};`
      )
      const file = path.join(directory, "nginx.conf")
      const main = `daemon off; pid ${directory}/nginx.pid; events {}
        http { access_log off; ${temporary.join(" ")} ${server} }`
      yield* Effect.promise(() => fs.writeFile(file, main))
      yield* proxy("nginx", ["-c", file, "-e", path.join(directory, "error.log")], client, directory)
      yield* assertReachable(client, federation, "nginx")
    })
  )

  it.effect.skipIf(!hasProgram("caddy"))("clients and other home servers reach Greenroom through Caddy", () =>
    Effect.gen(function* () {
      const { directory, federationPort, gateway } = yield* DeployedGateway
      const [client, federation] = [yield* freePort, yield* freePort]
      const example = yield* Effect.promise(() => fs.readFile(path.join(deploy, "Caddyfile"), "utf8"))
      const tls = `tls ${directory}/fullchain.pem ${directory}/privkey.pem`
      const sites = example
        .replace("example.org:8448 {", `https://example.org:${federation} {\n${tls}`)
        .replace("\nexample.org {", `\nhttps://example.org:${client} {\n${tls}`)
        .replace("127.0.0.1:8008", `127.0.0.1:${gateway.port}`)
        .replace("https://127.0.0.1:8449", `https://127.0.0.1:${federationPort}`)
      const file = path.join(directory, "Caddyfile")
      yield* Effect.promise(() =>
        fs.writeFile(file, `{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\n}\n${sites}`)
      )
      yield* proxy("caddy", ["run", "--config", file, "--adapter", "caddyfile"], client, directory)
      yield* assertReachable(client, federation, "caddy")
    })
  )
})

describe("greenroom.service", () => {
  const read = () => fs.readFile(path.join(deploy, "greenroom.service"), "utf8")

  it.skipIf(!hasProgram("systemd-analyze"))("systemd-analyze reports no fault in greenroom.service", async () => {
    const directory = await fs.mkdtemp(path.join(repository, "node_modules/.cache/unit-"))
    const file = path.join(directory, "greenroom.service")
    const unit = (await read()).replaceAll("/opt/greenroom", repository).replace("User=greenroom", "User=root")
    await fs.writeFile(file, unit)
    const { stderr, stdout } = await promisify(execFile)("systemd-analyze", ["verify", "--man=no", file])
    await fs.rm(directory, { recursive: true })
    assert.notInclude(`${stdout}${stderr}`, "greenroom.service")
  })

  it.live("the command line of greenroom.service starts the server", () =>
    Effect.gen(function* () {
      const directory = yield* GatewayProcess.temporaryDirectory
      const config = path.join(directory, "greenroom.toml")
      yield* Effect.promise(() => fs.writeFile(config, 'server_name = "example.org"\nport = 0\nfederation_port = 0\n'))
      const command = /ExecStart=(.*)/.exec(yield* Effect.promise(read))?.[1] ?? ""
      const [program = "", ...args] = command
        .replaceAll("/opt/greenroom", repository)
        .replace("/etc/greenroom/greenroom.toml", config)
        .replace("/var/lib/greenroom", directory)
        .split(" ")
      const database = Redacted.value(yield* TestDatabase.url)
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(program, args, {
            cwd: repository,
            stdio: ["ignore", "pipe", "inherit"],
            env: { PATH: process.env.PATH, GREENROOM_DATABASE_URL: database }
          })
        ),
        (child) => Effect.promise(() => end(child))
      )
      yield* Effect.callback<void>((resume) => {
        let output = ""
        child.stdout.setEncoding("utf8").on("data", (text) => {
          output += text
          if (output.includes("The home server example.org listens")) resume(Effect.void)
        })
        child.once("exit", () => resume(Effect.die(new Error(`It did not start: ${output}`))))
      })
    })
  )
})

describe("docs/kubernetes.yaml", () => {
  it.live(
    "kubernetes-validate accepts the manifests for a new and an old version",
    (context) =>
      Effect.gen(function* () {
        if (!hasProgram("python3")) return context.skip("Python is missing")
        const version = "1.37.0"
        const python = yield* Effect.promise(() =>
          installPython(`kubernetes-validate-${version}`, [`kubernetes-validate==${version}`])
        )
        const manifests = path.join(repository, "docs/kubernetes.yaml")
        const validate = (file: string, kubernetes: string) =>
          spawnSync(path.join(path.dirname(python), "kubernetes-validate"), ["--strict", "-k", kubernetes, file], {
            encoding: "utf8"
          })
        for (const kubernetes of ["1.37", "1.31"]) {
          const { status, stderr, stdout } = validate(manifests, kubernetes)
          assert.strictEqual(status, 0, stdout + stderr)
        }
        const wrong = path.join(yield* GatewayProcess.temporaryDirectory, "wrong.yaml")
        const text = yield* Effect.promise(() => fs.readFile(manifests, "utf8"))
        yield* Effect.promise(() => fs.writeFile(wrong, text.replace("replicas: 3", "replica: 3")))
        assert.notStrictEqual(validate(wrong, "1.37").status, 0)
      }).pipe(Effect.scoped),
    300_000
  )
})
