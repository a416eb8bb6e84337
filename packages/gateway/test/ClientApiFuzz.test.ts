import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { ask, createRoom, gateway, inPath, register } from "./TestGateway.ts"

/** An endpoint, as `/openapi.json` describes it. */
interface Operation {
  readonly method: string
  readonly path: string
  readonly query: ReadonlyArray<string>
  readonly hasBody: boolean
}

/** A request to an endpoint, well-formed or not. */
interface FuzzedRequest {
  readonly method: string
  readonly path: string
  readonly body: string | undefined
}

interface Specification {
  readonly paths: {
    readonly [path: string]: {
      readonly [method: string]: {
        readonly parameters?: ReadonlyArray<{ readonly in: string; readonly name: string }>
        readonly requestBody?: unknown
      }
    }
  }
}

/** Endpoints that are left out: they end the session of the requests, or open a socket. */
const excluded = ["/logout", "/logout/all", "/unregister", "/socket"]

/** Valid values of the parameters of paths and queries, and of the keys of bodies, by name. */
type ValidValues = { readonly [name: string]: ReadonlyArray<unknown> }

const operationsOf = ({ paths }: Specification): ReadonlyArray<Operation> =>
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(() => !excluded.some((end) => path.endsWith(end)))
      .map(([method, operation]) => ({
        method: method.toUpperCase(),
        path,
        query: (operation.parameters ?? []).filter((parameter) => parameter.in === "query").map(({ name }) => name),
        hasBody: operation.requestBody !== undefined
      }))
  )

const hostile = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constantFrom("", "%", "\0", "..", "!", "@:", "#a:", "$x:y", "__proto__", "m.room.member", "m.room.power_levels"),
  fc.constantFrom("-1", "1e9", "NaN", "START", "END", "s1_2_3_4", "x".repeat(300), "ü:ö", "\ud800", "!a:b:c:d")
)

/** Mostly valid values, so that requests get past the decoding of their parameters. */
const value = (name: string, valid: ValidValues): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...(valid[name] ?? ["1"])) }, { weight: 1, arbitrary: hostile })

const text = (name: string, valid: ValidValues) => value(name, valid).map(String)

const body = (valid: ValidValues) =>
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc
        .subarray(Object.keys(valid))
        .chain((keys) => fc.record(Object.fromEntries(keys.map((key) => [key, value(key, valid)]))))
        .map((object) => JSON.stringify(object))
    },
    { weight: 1, arbitrary: fc.jsonValue().map((json) => JSON.stringify(json)) },
    { weight: 1, arbitrary: hostile }
  )

/** A path part that `fetch` leaves as it is. */
const encode = (part: string): string => inPath(part.toWellFormed()) || "%20"

const requestOf = (operation: Operation, valid: ValidValues): fc.Arbitrary<FuzzedRequest> => {
  const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? "")
  const fields = (keys: ReadonlyArray<string>) =>
    fc.record(Object.fromEntries(keys.map((name) => [name, text(name, valid)])))
  return fc.record({ parts: fields(names), query: fields(operation.query), body: body(valid) }).map((request) => ({
    method: operation.method,
    path: `/${operation.path.replaceAll(/\{(\w+)\}/g, (_, name) => encode(request.parts[name] ?? ""))}?${Object.entries(
      request.query
    )
      .map(([name, item]) => `${name}=${encode(item)}`)
      .join("&")}`,
    body: operation.hasBody ? request.body : undefined
  }))
}

const runsPerOperation = 20

layer(gateway, { excludeTestServices: true })("the client API", (it) => {
  it.effect("answers every request with a result or a documented error", () =>
    Effect.gen(function* () {
      const alice = yield* register("fuzz-alice")
      const bob = yield* register("fuzz-bob")
      const room = yield* createRoom(alice, { room_alias_name: "fuzz", visibility: "public" })
      const sent = yield* ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, {
        token: alice.token,
        json: { msgtype: "m.text", body: "hello" }
      })
      const valid: ValidValues = {
        roomId: [room],
        roomIdOrAlias: [room, "#fuzz:green.test"],
        alias: ["#fuzz:green.test", "#other:green.test"],
        userId: [alice.id, bob.id],
        eventId: [sent.body.event_id],
        type: ["m.room.message", "m.room.name", "m.room.member", "m.room.power_levels", "m.call.invite"],
        stateKey: ["", alice.id, bob.id],
        field: ["displayname", "location", "org.example.field"],
        txnId: ["1", "2", "3"],
        from: ["START", "END"],
        to: ["START", "END"],
        limit: ["0", "1", "1000"],
        dir: ["f", "b"],
        timeout: ["0"],
        feedback: ["true"],
        user_id: [alice.id, bob.id],
        room_id: [room],
        user: ["fuzz-alice", "fuzz-carol"],
        password: ["secret-fuzz-alice"],
        name: ["a name"],
        topic: ["a topic"],
        invite: [[bob.id], [alice.id, alice.id]],
        visibility: ["public", "private", "rooms"],
        typing: [true, false],
        presence: ["online", "unavailable"],
        status_msg: ["here"],
        displayname: ["Alice", null],
        location: ["London"],
        msgtype: ["m.text", "m.image"],
        body: ["hello", 5],
        membership: ["join", "leave", "ban"],
        users: [{ [alice.id]: 100 }, { [alice.id]: "100" }],
        ban: [50, -1, 1e300],
        reason: ["because"]
      }
      const specification = yield* ask("GET", "//openapi.json")
      const operations = operationsOf(specification.body as unknown as Specification)
      assert.isAbove(operations.length, 40)
      for (const operation of operations) {
        // An earlier request may have left the room.
        yield* ask("POST", `/join/${inPath(room)}`, { token: alice.token })
        for (const { body, method, path } of fc.sample(requestOf(operation, valid), runsPerOperation)) {
          const answer = yield* ask(method, path, { token: alice.token, ...(body === undefined ? {} : { body }) })
          const asked = `${method} ${path} ${body ?? ""}: ${answer.text}`
          assert.isBelow(answer.status, 500, asked)
          assert.notStrictEqual(answer.status, 401, `The session ended: ${asked}`)
          if (answer.status >= 400) {
            assert.match(answer.body?.errcode ?? "", /^M_[A-Z_]+$/, asked)
            assert.isString(answer.body.error, asked)
          }
        }
      }
      assert.strictEqual((yield* ask("GET", "//health")).status, 200)
    })
  )
})
