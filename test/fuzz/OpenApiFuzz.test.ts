/**
 * Random requests, valid and invalid, to every operation of the OpenAPI documents of the draft and of the current API. Each answer must be
 * documented or an error of the protocol, and the server must continue to work.
 */
import { assert, layer } from "@effect/vitest"
import { Console, Effect } from "effect"
import fc from "fast-check"
import { type Answer, curl } from "../support/Curl.ts"
import { type Person, roomOf, type Scene, Stage } from "../support/Scene.ts"
import { seed } from "../support/Seed.ts"
import { type HostileRequest, hostileRequests, type Known, type Operation, operationsOf } from "./HostileRequests.ts"
import { type TodaysKnown, todaysOperations, todaysRequests } from "./TodaysRequests.ts"

/** Requests to each operation. */
const runs = Number(process.env.GREENROOM_FUZZ_RUNS ?? 150)

/** Requests to each operation of the current API. */
const todaysRuns = Number(process.env.GREENROOM_FUZZ_RUNS ?? 20)

/** Registration and login get fewer requests, since they hash passwords, which is slow. */
const runsOf = ({ id }: Operation) => (/^(registration\.register|login\.login)$/.test(id) ? Math.ceil(runs / 3) : runs)

/** Whether the operation ends the token of the request, so that it gets a token of its own. */
const endsToken = ({ path }: Pick<Operation, "path">) =>
  /\/(logout|unregister|account|devices|delete_devices|refresh|password)(\/|$)/.test(path)

const send = (url: string, { body, contentType, method, path, token }: HostileRequest) =>
  curl(url, method, path, {
    ...(body === undefined ? {} : { data: body }),
    headers: {
      ...(contentType === undefined ? {} : { "content-type": contentType }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` })
    }
  })

/** Errors of paths that do not reach the operation: unknown, with an empty part, or not UTF-8. */
const pathErrors = new Set(["404 M_UNRECOGNIZED", "405 M_UNRECOGNIZED", "400 M_UNKNOWN", "400 M_BAD_PAGINATION"])

/** The fault of an answer, if it has one. */
const flawOf = ({ errors }: Pick<Operation, "errors">, { body, headers, status, text }: Answer): string | undefined => {
  if (headers["access-control-allow-origin"] !== "*") return "may not be read by web pages"
  if (status < 400) return status >= 200 && status < 300 ? undefined : `has status ${status}`
  if (status >= 500) return `has status ${status}: ${text}`
  if (typeof body?.errcode !== "string" || !/^M_[A-Z_]+$/.test(body.errcode)) return `has no errcode: ${text}`
  if (typeof body.error !== "string" || body.error === "") return `has no error text: ${text}`
  if (/\n\s+at |node_modules|\.ts:[0-9]/.test(text)) return `shows a stack trace: ${text}`
  const error = `${status} ${body.errcode}`
  // A URL with U+0000 is refused before routing.
  if (error === "400 M_INVALID_PARAM" && body.error === "The URL contains U+0000") return undefined
  return errors.has(error) || pathErrors.has(error) ? undefined : `is not documented, ${error}: ${text}`
}

/** Creates a room with an event and an alias. Each operation gets its own, since requests may remove its members. */
const createTargets = Effect.fnUntraced(function* (people: ReadonlyArray<Person>, name: string) {
  const [owner, ...others] = people as [Person, ...Array<Person>]
  const room = yield* roomOf(owner, ...others)
  const inPath = encodeURIComponent(room)
  const alias = `#${name}:green.test`
  yield* owner.ask("PUT", `/directory/room/${encodeURIComponent(alias)}`, { room_id: room })
  const { body } = yield* owner.ask("POST", `/rooms/${inPath}/send/m.room.message`, {
    msgtype: "m.text",
    body: "Hello"
  })
  return { room, alias, event: body.event_id as string }
})

/** The fault of an answer of the current API. HTML pages, redirections and the stages of a login are no errors. */
const todaysFlawOf = (operation: Pick<Operation, "errors">, answer: Answer): string | undefined => {
  const { body, headers, status } = answer
  if (status < 500 && (headers["content-type"] ?? "").startsWith("text/html")) return undefined
  if (status >= 300 && status < 400) return undefined
  if (status === 401 && Array.isArray(body?.flows)) return undefined
  return flawOf(operation, answer)
}

const shortened = (defect: unknown): string => {
  const { cause, message } = defect as Error
  return `${message.replaceAll(/(.)\1{100,}/g, "$1$1$1...")} ${cause ?? ""}`
}

/** Valid parameters of the current API that refer to nothing on the server. */
const todaysParameters: TodaysKnown["others"] = {
  kind: ["override", "underride", "content", "room", "sender"],
  ruleId: [".m.rule.master", "mine"],
  scope: ["global"],
  receiptType: ["m.read", "m.read.private", "m.fully_read"],
  keyName: ["displayname", "avatar_url", "m.tz", "org.example.field"],
  relType: ["m.thread", "m.annotation"],
  method: ["crop", "scale"]
}

const fuzzWith = (
  scene: Scene,
  requests: fc.Arbitrary<HostileRequest>,
  numRuns: number,
  flawIn: (answer: Answer) => string | undefined
) =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(requests, async (request) => {
        const flaw = flawIn(await Effect.runPromise(send(scene.gateway.url, request)))
        if (flaw !== undefined) throw new Error(`The answer ${flaw}`.slice(0, 500))
      }),
      { seed, numRuns, endOnFailure: false, interruptAfterTimeLimit: 60_000 }
    )
  )

const fuzz = (scene: Scene, operation: Operation, known: Known) =>
  fuzzWith(scene, hostileRequests(operation, known), runsOf(operation), (answer) => flawOf(operation, answer))

layer(Stage.layer(), { excludeTestServices: true })("OpenApiFuzz", (it) => {
  it.effect(
    "every operation of the draft answers random requests without an internal error",
    () =>
      Effect.gen(function* () {
        yield* Console.log(`OpenApiFuzz: seed ${seed}`)
        const scene = yield* Stage
        const document = (yield* scene.ask("GET", "//openapi.json")).body
        const operations = operationsOf(document)
        assert.isAbove(operations.length, 50)
        const people = [yield* scene.register("alice"), yield* scene.register("bob")]
        const failures: Array<string> = []
        for (const operation of operations) {
          const { alias, event, room } = yield* createTargets(people, operation.id.toLowerCase())
          const ofBob = yield* createTargets(people.slice(1), `${operation.id.toLowerCase()}.bob`)
          const known: Known = {
            rooms: [room, ofBob.room],
            users: people.map(({ userId }) => userId),
            events: [event, ofBob.event],
            aliases: [alias, ofBob.alias],
            tokens: endsToken(operation)
              ? [(yield* scene.register(`victim.${operation.id}`.toLowerCase())).token]
              : people.map(({ token }) => token)
          }
          yield* Effect.catchDefect(fuzz(scene, operation, known), (defect) =>
            Effect.sync(() => failures.push(`${operation.method} ${operation.path}: ${shortened(defect)}`))
          )
        }
        assert.deepStrictEqual(failures, [])
        assert.notInclude(scene.gateway.output(), "Internal error while answering")
        for (const { token } of people) assert.notInclude(scene.gateway.output(), token)

        // The server still works.
        assert.strictEqual((yield* scene.ask("GET", "//health")).body.ok, true)
        const [alice, bob] = people as [Person, Person]
        const room = encodeURIComponent(yield* roomOf(alice, bob))
        const { body: sent } = yield* alice.ask("PUT", `/rooms/${room}/send/m.room.message/after`, {
          msgtype: "m.text",
          body: "Still here"
        })
        const { body: page } = yield* bob.ask("GET", `/rooms/${room}/messages?limit=1`)
        assert.strictEqual(page.chunk[0].event_id, sent.event_id)
      }),
    600_000
  )

  it.effect(
    "every operation of the current API answers random requests without an internal error",
    () =>
      Effect.gen(function* () {
        const scene = yield* Stage
        const operations = todaysOperations((yield* scene.ask("GET", "//openapi/client-server.json")).body)
        assert.isAbove(operations.length, 150)
        const people = [yield* scene.register("carol"), yield* scene.register("dan")]
        const [carol] = people as [Person]
        const device = (yield* carol.ask("GET", "//_matrix/client/v3/account/whoami")).body.device_id as string
        const uploaded = yield* scene.ask("POST", "//_matrix/media/v3/upload", { bearer: carol.token, data: "a file" })
        const media = uploaded.body.content_uri.split("/").at(-1) as string
        const failures: Array<string> = []
        for (const [index, operation] of operations.entries()) {
          const { alias, event, room } = yield* createTargets(people, `today${index}`)
          const since = (yield* carol.ask("GET", "//_matrix/client/v3/sync?timeout=0")).body.next_batch as string
          const victim = endsToken(operation) ? yield* scene.register(`today.victim.${index}`) : undefined
          const known: TodaysKnown = {
            rooms: [room],
            users: people.map(({ userId }) => userId),
            events: [event],
            aliases: [alias],
            tokens: victim === undefined ? people.map(({ token }) => token) : [victim.token],
            media: [media],
            devices: [device],
            streamTokens: [since],
            others: todaysParameters
          }
          yield* Effect.catchDefect(
            fuzzWith(scene, todaysRequests(operation, known), todaysRuns, (answer) => todaysFlawOf(operation, answer)),
            (defect) => Effect.sync(() => failures.push(`${operation.method} ${operation.path}: ${shortened(defect)}`))
          )
        }
        assert.deepStrictEqual(failures, [])
        assert.notInclude(scene.gateway.output(), "Internal error while answering")
        assert.strictEqual((yield* scene.ask("GET", "//health")).body.ok, true)
      }),
    600_000
  )
})
