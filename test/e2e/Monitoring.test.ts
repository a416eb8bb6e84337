/**
 * Metrics, traces, the access log, and their documentation in docs/monitoring.md. Debian's Prometheus reads the metrics where it is
 * installed, as by `.ci/run`.
 */
import { execFile, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Schedule } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { type Scene, sceneOf, succeeded } from "../support/Scene.ts"

const run = promisify(execFile)
const docs = (name: string) => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url))
const isInstalled = existsSync("/usr/bin/prometheus") && existsSync("/usr/bin/promtool")

/** The metrics of a gateway, from the address that it logs. */
const metricsOf = ({ gateway }: Scene): Effect.Effect<string> =>
  Effect.promise(async () => {
    const [, url = ""] = /The metrics are at (http:[^ "]+)/.exec(gateway.output()) ?? []
    return await (await fetch(url)).text()
  })

/** Requests of one user. Returns the user. */
const session = Effect.fnUntraced(function* (scene: Scene) {
  const alice = yield* scene.register("alice")
  const created = succeeded(yield* alice.ask("POST", "//_matrix/client/v3/createRoom", { name: "Green" }))
  const send = `//_matrix/client/v3/rooms/${encodeURIComponent(created.body.room_id)}/send/m.room.message`
  for (const body of ["one", "two"]) {
    succeeded(yield* alice.ask("PUT", `${send}/${body}`, { msgtype: "m.text", body: `whispered ${body}` }))
  }
  succeeded(yield* scene.ask("GET", `//_matrix/client/v3/sync?access_token=${alice.token}`))
  yield* scene.ask("POST", "//_matrix/client/v3/login", {
    data: { type: "m.login.password", identifier: { type: "m.id.user", user: "alice" }, password: "not the secret" }
  })
  yield* scene.ask("GET", `//_matrix/client/v3/nothing?access_token=${alice.token}`)
  return alice
})

const start = Effect.fnUntraced(function* (settings: { readonly [name: string]: string } = {}) {
  const databaseUrl = yield* TestDatabase.url
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const environment = {
    GREENROOM_METRICS_PORT: "0",
    GREENROOM_ACCESS_LOG: "true",
    GREENROOM_LOG_FORMAT: "json",
    ...settings
  }
  return sceneOf(yield* GatewayProcess.start({ dataDir, databaseUrl, environment }))
})

/** Prometheus with the alert rules of the documentation, which reads the metrics of one gateway. */
const startPrometheus = Effect.fnUntraced(function* (target: string) {
  const directory = yield* GatewayProcess.temporaryDirectory
  const config = (yield* Effect.promise(() => fs.readFile(docs("monitoring/prometheus.yml"), "utf8")))
    .replace("127.0.0.1:9101", target)
    .replace("15s", "1s")
  yield* Effect.promise(() => fs.copyFile(docs("monitoring/alerts.yml"), path.join(directory, "alerts.yml")))
  yield* Effect.promise(() => fs.writeFile(path.join(directory, "prometheus.yml"), config))
  yield* Effect.promise(() => run("promtool", ["check", "config", path.join(directory, "prometheus.yml")]))
  const args = [
    `--config.file=${directory}/prometheus.yml`,
    `--storage.tsdb.path=${directory}/data`,
    "--web.listen-address=127.0.0.1:0",
    "--log.level=info"
  ]
  return yield* Effect.callback<string>((resume) => {
    const child = spawn("prometheus", args, { stdio: ["ignore", "ignore", "pipe"] })
    let output = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output += text
      const found = /msg="Listening on" address=(\S+)/.exec(output)
      if (found?.[1] !== undefined) resume(Effect.succeed(`http://${found[1]}`))
    })
    child.once("close", () => resume(Effect.die(new Error(output))))
    return Effect.sync(() => child.kill())
  })
})

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
}

/** An OpenTelemetry collector, which takes spans by OTLP over HTTP, as JSON. */
const startCollector = Effect.gen(function* () {
  const spans: Array<Span> = []
  let received = ""
  const url = yield* serveHttp((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text
    })
    request.on("end", () => {
      received += body
      for (const { scopeSpans } of JSON.parse(body).resourceSpans) {
        for (const scope of scopeSpans) spans.push(...scope.spans)
      }
      response.writeHead(200, { "content-type": "application/json" }).end("{}")
    })
  })
  return { spans, received: () => received, url }
})

describe("monitoring", () => {
  it.live(
    "a trace contains the endpoint, the actor and the commit, and no secrets",
    () =>
      Effect.gen(function* () {
        const { received, spans, url } = yield* startCollector
        const scene = yield* start({ GREENROOM_TRACING_ENDPOINT: url, GREENROOM_TRACING_RATIO: "1" })
        const alice = yield* session(scene)
        const find = (name: string, within?: Span) =>
          spans.find((span) => span.name === name && (within === undefined || span.traceId === within.traceId))
        const sent = "PUT /_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId"
        const endpoint = yield* Effect.repeat(
          Effect.sync(() => find(sent)),
          {
            until: (span) => span !== undefined && find("PUT", span) !== undefined,
            schedule: Schedule.spaced("100 millis")
          }
        )
        const propose = find("Room.Propose", endpoint)
        const append = find("EventLog.append", endpoint)
        const names = JSON.stringify(
          spans.filter(({ traceId }) => traceId === endpoint?.traceId).map(({ name }) => name)
        )
        assert.isDefined(propose, names)
        assert.isDefined(append, names)
        /** The names of a span and its parents, up to the root. */
        const namesOf = (span: Span | undefined): ReadonlyArray<string> =>
          span === undefined ? [] : [span.name, ...namesOf(spans.find(({ spanId }) => spanId === span.parentSpanId))]
        const ancestors = namesOf(append)
        assert.includeMembers([...ancestors], ["EventLog.append", "Room.Propose", sent, "PUT"], ancestors.join(" < "))
        for (const secret of [alice.token, "secret of alice", "not the secret", "whispered"]) {
          assert.notInclude(received(), secret)
        }
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    120_000
  )

  it.live(
    "metrics count requests, events and actors; the access log lists requests and shows no secrets",
    () =>
      Effect.gen(function* () {
        const scene = yield* start()
        const alice = yield* session(scene)
        const metrics = yield* Effect.repeat(metricsOf(scene), {
          until: (text) => /route="none",status="404"\} 1/.test(text),
          schedule: Schedule.spaced("100 millis")
        })
        const lines = metrics.split("\n")
        const value = (series: string) =>
          Number(
            lines
              .find((line) => line.startsWith(`${series} `))
              ?.split(" ")
              .at(-1)
          )
        const sent = 'listener="client",method="PUT",route="/_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId"'
        assert.strictEqual(value(`greenroom_http_requests_total{${sent},status="200"}`), 2, metrics)
        assert.strictEqual(value(`greenroom_http_request_duration_seconds_count{${sent}}`), 2)
        assert.isAtLeast(value("greenroom_events_total"), 9)
        assert.isAtLeast(value("greenroom_commits_total"), 3)
        assert.isAtLeast(value('greenroom_actors{actor="Room"}'), 1)
        assert.strictEqual(value("greenroom_users"), 1)
        assert.isAtLeast(value("greenroom_database_connections_idle"), 1)
        assert.isAbove(value("process_resident_memory_bytes"), 1e6)

        const names = new Set(Array.from(metrics.matchAll(/^# TYPE (\S+)/gm), ([, name]) => name))
        const manual = yield* Effect.promise(() => fs.readFile(docs("monitoring.md"), "utf8"))
        const described = Array.from(manual.matchAll(/^\| `([a-z0-9_]+)` \|/gm), ([, name]) => name)
        assert.sameMembers([...names], described, "docs/monitoring.md lists all metrics")
        for (const file of ["monitoring/dashboard.json", "monitoring/alerts.yml"]) {
          const text = yield* Effect.promise(() => fs.readFile(docs(file), "utf8"))
          for (const [name] of text.matchAll(/\b(greenroom|nodejs|process)_[a-z0-9_]+/g)) {
            assert.include(described, name.replace(/_(bucket|sum|count)$/, ""), file)
          }
        }
        assert.strictEqual((yield* scene.ask("GET", "//metrics")).status, 404, "the client API has no metrics")

        const output = scene.gateway.output()
        const requests = output
          .split("\n")
          .filter((line) => line.includes('"message":"request"'))
          .map((line) => JSON.parse(line).annotations)
        const put = requests.find(({ method, path }) => method === "PUT" && path.includes("/send/"))
        assert.strictEqual(put.user, alice.userId)
        assert.strictEqual(put.status, 200)
        assert.isNumber(put.ms)
        const { headers } = yield* scene.ask("GET", "//_matrix/client/versions")
        assert.match(String(headers["x-request-id"]), /^[0-9a-f]{8}-[0-9a-z]+$/)
        for (const secret of [alice.token, "secret of alice", "not the secret", "whispered", "access_token"]) {
          assert.notInclude(output, secret)
        }
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    120_000
  )

  it.live.skipIf(!isInstalled)("each alert rule fires when it must, and not before", () =>
    Effect.promise(async () => {
      await run("promtool", ["test", "rules", docs("monitoring/alerts.test.yml")])
      const namesIn = async (file: string, pattern: RegExp) =>
        Array.from((await fs.readFile(docs(file), "utf8")).matchAll(pattern), ([, name]) => name)
      const rules = await namesIn("monitoring/alerts.yml", /- alert: (\w+)/g)
      const fired = await namesIn("monitoring/alerts.test.yml", /alertname: (\w+)\n.*\n +exp_alerts:\n/g)
      assert.sameMembers(fired, rules, "each rule has a test in which it fires")
      assert.sameMembers(await namesIn("monitoring.md", /^\| `(Greenroom\w+)` \|/gm), rules)
    })
  )

  it.live.skipIf(!isInstalled)(
    "Prometheus reads the metrics, and promtool reports no fault in metrics and alert rules",
    () =>
      Effect.gen(function* () {
        const scene = yield* start()
        yield* session(scene)
        const metrics = yield* metricsOf(scene)
        const check = run("promtool", ["check", "metrics"])
        check.child.stdin?.end(metrics)
        const faults = yield* Effect.promise(() =>
          check.then(
            ({ stderr }) => stderr,
            ({ stderr }) => String(stderr)
          )
        )
        assert.strictEqual(faults, "")
        yield* Effect.promise(() => run("promtool", ["check", "rules", docs("monitoring/alerts.yml")]))
        const [, target = ""] = /The metrics are at http:\/\/([^/ "]+)/.exec(scene.gateway.output()) ?? []
        const prometheus = yield* startPrometheus(target)
        const query = (expression: string) =>
          Effect.promise(async () => {
            const response = await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`)
            // Prometheus is still starting.
            if (response.status === 503) return []
            const { data } = (await response.json()) as { data: { result: ReadonlyArray<{ value: [number, string] }> } }
            return data.result
          })
        const scraped = yield* Effect.repeat(query('up{job="greenroom"} == 1'), {
          until: (result) => result.length === 1,
          schedule: Schedule.spaced("200 millis")
        })
        assert.lengthOf(scraped, 1)
        const [events] = yield* query("greenroom_events_total")
        assert.isAtLeast(Number(events?.value[1]), 9)
        const dashboard = JSON.parse(
          yield* Effect.promise(() => fs.readFile(docs("monitoring/dashboard.json"), "utf8"))
        )
        const expressions = dashboard.panels.flatMap(({ targets }: { targets: ReadonlyArray<{ expr: string }> }) =>
          targets.map(({ expr }) => expr)
        )
        for (const expression of expressions as ReadonlyArray<string>) {
          const filled = expression.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*")
          const names = filled.match(/\b(?:greenroom|nodejs|process)_[a-z0-9_]+/g) ?? []
          yield* query(filled)
          for (const name of names) assert.isAtLeast((yield* query(name)).length, 1, `the dashboard names ${name}`)
        }
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    120_000
  )
})
