import { assert, describe, it } from "@effect/vitest"
import { Federation } from "@greenroom/actors/federation/Federation"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { Transaction, TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect, Exit, Option, Result } from "effect"
import { SqlClient } from "effect/sql"
import { homeServers, isMessage, message, readsIn, type TestServer } from "./support/HomeServers.ts"
import { HostileServer, notFound, type Responder } from "./support/HostileServer.ts"
import { nextWithPdus, rawPeer } from "./support/RawPeer.ts"
import { scene } from "./support/Scene.ts"

const receive = (server: TestServer, transaction: Partial<Transaction> & { readonly transaction_id: string }) =>
  server.run(
    Effect.flatMap(Federation, (federation) =>
      federation.receiveTransaction("red.test" as never, {
        origin: "red.test" as never,
        destination: server.serverName,
        ts: 0,
        prev_ids: [],
        pdus: [],
        edus: [],
        ...transaction
      })
    )
  )

const countOf = (server: TestServer, transactionId: string) =>
  server.run(
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql`SELECT 1 FROM received_transactions WHERE transaction_id = ${transactionId}`
    ).pipe(Effect.map((rows) => rows.length))
  )

/** A room on red and blue, and a transaction of red with a message that blue has not received. */
const sceneWithTransaction = Effect.gen(function* () {
  const { blue, bob, red, room_id, send } = yield* scene
  yield* blue.stop
  const transaction = yield* Effect.scoped(
    Effect.gen(function* () {
      const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
      yield* send("once")
      const taken = yield* nextWithPdus(received)
      taken.answer(200, { pdus: {} })
      const { pdus } = taken.body
      return { transaction_id: taken.transactionId, pdus: pdus as unknown as Transaction["pdus"] }
    })
  )
  yield* blue.start
  return { blue, bob, red, room_id, transaction }
})

describe("Transactions", () => {
  it.live("a repeated transaction has one effect and one answer, at the same time, later and after a restart", () =>
    Effect.gen(function* () {
      const { blue, bob, room_id, transaction } = yield* sceneWithTransaction
      const [first, ...others] = yield* Effect.forEach([1, 2, 3], () => receive(blue, transaction), { concurrency: 3 })
      yield* blue.sees(bob, isMessage("once"))
      assert.deepStrictEqual(Object.values(first!.pdus), [{}])
      yield* blue.stop
      yield* blue.start
      for (const answer of [...others, yield* receive(blue, { ...transaction, pdus: [] })]) {
        assert.deepStrictEqual(answer, first)
      }
      assert.deepStrictEqual(yield* readsIn(blue, bob, room_id), ["once"])
    })
  )

  it.live("malformed PDUs and EDUs are refused individually", () =>
    Effect.gen(function* () {
      const { blue, bob, transaction } = yield* sceneWithTransaction
      const answer = yield* receive(blue, {
        transaction_id: "mixed",
        pdus: [null, { pdu_id: "bare" }, ...transaction.pdus, "text", []],
        edus: [null, 7, {}, { edu_type: "m.typing" }, { edu_type: "m.typing", content: { room_id: 1 } }]
      })
      const [accepted, ...others] = Object.values(answer.pdus).toSorted(
        (a, b) => Object.keys(a).length - Object.keys(b).length
      )
      assert.deepStrictEqual(accepted, {})
      for (const { error } of others) assert.isString(error)
      yield* blue.sees(bob, isMessage("once"))
    })
  )

  const inDatabase = (server: TestServer, statement: string) =>
    server.run(Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.orDie(sql.unsafe(statement))))

  /** Makes PostgreSQL refuse events with this text with this SQLSTATE. */
  const refuseToStore = Effect.fnUntraced(function* (server: TestServer, text: string, sqlState: string) {
    yield* inDatabase(
      server,
      `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.body LIKE '%${text}%' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '${sqlState}'; END IF;
        RETURN NEW;
      END $$`
    )
    const trigger = "TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()"
    yield* inDatabase(server, `CREATE OR REPLACE ${trigger}`)
  })

  /** Makes PostgreSQL refuse all changes of a table with this SQLSTATE. */
  const refuseChanges = Effect.fnUntraced(function* (server: TestServer, table: string, sqlState: string) {
    yield* inDatabase(
      server,
      `CREATE OR REPLACE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'refused' USING ERRCODE = '${sqlState}';
      END $$`
    )
    const changes = `BEFORE INSERT OR UPDATE OR DELETE ON ${table}`
    yield* inDatabase(server, `CREATE TRIGGER refuse ${changes} EXECUTE FUNCTION refuse_changes()`)
  })

  /** Four messages for blue, one of which its database refuses. */
  const sendPoison = Effect.fnUntraced(function* (sqlState: string) {
    const { blue, bob, room_id, send } = yield* scene
    yield* blue.stop
    const pdus = yield* Effect.scoped(
      Effect.gen(function* () {
        const received = yield* rawPeer(blue.serverName, blue.settings.port, blue.settings.dataDir)
        const pdus: Array<unknown> = []
        for (const body of ["first", "poison", "second", "third"]) {
          yield* send(body)
          const taken = yield* nextWithPdus(received)
          taken.answer(200, { pdus: {} })
          pdus.push(...taken.body.pdus)
        }
        return pdus as Transaction["pdus"]
      })
    )
    yield* blue.start
    yield* refuseToStore(blue, "poison", sqlState)
    const attempt = Effect.exit(receive(blue, { transaction_id: "poisoned", pdus }))
    const refuse = (text: string, state: string) => refuseToStore(blue, text, state)
    const store = inDatabase(blue, "DROP TRIGGER refuse ON events")
    return { attempt, readByBob: readsIn(blue, bob, room_id), refuse, store }
  })

  const errorsOf = (answer: Exit.Exit<TransactionAnswer, unknown>) =>
    Object.values(Option.getOrThrow(Exit.getSuccess(answer)).pdus).flatMap(({ error }) => error ?? [])

  it.live("a PDU that cannot be stored is answered with an error, and the others are accepted", () =>
    Effect.gen(function* () {
      const { attempt, readByBob } = yield* sendPoison("22P02")
      assert.deepStrictEqual(errorsOf(yield* attempt), ["The PDU cannot be handled"])
      assert.deepStrictEqual(yield* readByBob, ["first", "second", "third"])
    })
  )

  for (const state of ["XX000", "57014"]) {
    it.live(
      `a failure that may be transient (${state}) fails the transaction, until the PDU has failed too often`,
      () =>
        Effect.gen(function* () {
          const { attempt, readByBob } = yield* sendPoison(state)
          for (let count = 1; count < 5; count++) assert.isTrue(Exit.isFailure(yield* attempt))
          assert.deepStrictEqual(errorsOf(yield* attempt), ["The PDU cannot be handled"])
          assert.deepStrictEqual(yield* readByBob, ["first", "second", "third"])
        })
    )
  }

  it.live("no PDU is lost while the database is away or stores nothing, however often the transaction comes", () =>
    Effect.gen(function* () {
      const { attempt, readByBob, refuse, store } = yield* sendPoison("53100")
      const states = ["53100", "53100", "57P01", "57014", "40P01", "55P03", "25006", "58030", "42501"]
      for (const [count, state] of states.entries()) {
        yield* refuse(count % 2 === 0 ? "poison" : "", state)
        assert.isTrue(Exit.isFailure(yield* attempt), state)
      }
      // The time of the outage does not count towards a later failure of another kind.
      yield* refuse("poison", "XX000")
      assert.isTrue(Exit.isFailure(yield* attempt))
      yield* store
      assert.deepStrictEqual(errorsOf(yield* attempt), [])
      assert.deepStrictEqual(yield* readByBob, ["first", "poison", "second", "third"])
    })
  )

  /** EDUs about Bob, each with its table and a query that counts the rows that it leaves. */
  const lastingEdus = (bob: Session) => {
    const listed = (edu_type: string, observed: string, observer: string, change: string) => ({
      edu: { edu_type, content: { observed_user: observed, observer_user: observer } },
      table: "presence_lists",
      effect: `SELECT 1 FROM presence_lists WHERE observer = '${observer}' AND observed = '${observed}' AND ${change}`,
      rows: 1
    })
    const toDevice = { [bob.userId]: { [bob.deviceId ?? "none"]: {} } }
    const direct = { sender: "@alice:red.test", type: "m.test", message_id: "one", messages: toDevice }
    const update = { user_id: "@alice:red.test", device_id: "NEW", stream_id: 7_777, prev_id: [7_776] }
    return [
      listed("m.presence_invite", bob.userId, "@alice:red.test", "NOT accepted"),
      listed("m.presence_accept", "@dora:red.test", bob.userId, "accepted"),
      { ...listed("m.presence_deny", "@eve:red.test", bob.userId, "true"), rows: 0 },
      {
        edu: { edu_type: "m.direct_to_device", content: direct },
        table: "to_device_messages",
        effect: "SELECT 1 FROM to_device_messages",
        rows: 1
      },
      {
        edu: { edu_type: "m.device_list_update", content: update },
        table: "remote_device_lists",
        effect: "SELECT 1 FROM remote_device_lists WHERE user_id = '@alice:red.test' AND 7777 = ANY (streams)",
        rows: 1
      }
    ]
  }

  it.live("an EDU that nothing repeats is taken when the database can be written again", () =>
    Effect.gen(function* () {
      const { blue, bob, red } = yield* scene
      // Red would answer with other devices.
      yield* red.stop
      for (const other of ["@dora:red.test", "@eve:red.test"]) {
        yield* inDatabase(blue, `INSERT INTO presence_lists VALUES ('${bob.userId}', '${other}', false)`)
      }
      for (const { edu, effect, rows, table } of lastingEdus(bob)) {
        yield* refuseChanges(blue, table, "53100")
        const attempt = Effect.exit(receive(blue, { transaction_id: edu.edu_type, edus: [edu] }))
        for (let count = 0; count < 6; count++) assert.isTrue(Exit.isFailure(yield* attempt), edu.edu_type)
        yield* inDatabase(blue, `DROP TRIGGER refuse ON ${table}`)
        assert.isTrue(Exit.isSuccess(yield* attempt), edu.edu_type)
        assert.strictEqual((yield* inDatabase(blue, effect)).length, rows, edu.edu_type)
      }
    })
  )

  it.live("an EDU that cannot be stored does not hold up the others", () =>
    Effect.gen(function* () {
      const { blue, bob, room_id, transaction } = yield* sceneWithTransaction
      for (const [state, attempts] of [
        ["22P02", 1],
        ["XX000", 5]
      ] as const) {
        for (const { edu, table } of lastingEdus(bob)) {
          yield* refuseChanges(blue, table, state)
          const transaction_id = `${edu.edu_type} ${state}`
          const attempt = Effect.exit(receive(blue, { ...transaction, transaction_id, edus: [edu] }))
          for (let count = 1; count < attempts; count++) assert.isTrue(Exit.isFailure(yield* attempt), transaction_id)
          assert.isTrue(Exit.isSuccess(yield* attempt), transaction_id)
          yield* inDatabase(blue, `DROP TRIGGER refuse ON ${table}`)
        }
      }
      assert.deepStrictEqual(yield* readsIn(blue, bob, room_id), ["once"])
    })
  )

  it.live("a transaction over its limits is refused, and nothing of it is kept", () =>
    Effect.gen(function* () {
      const { blue } = yield* scene
      const many = (count: number) => Array.from({ length: count }, () => ({}))
      for (const parts of [{ pdus: many(51) }, { edus: many(101) }, { pdus: many(1_000), edus: many(1_000) }]) {
        const refused = yield* Effect.flip(receive(blue, { transaction_id: "too much", ...parts }))
        assert.strictEqual(refused._tag, "M_TOO_LARGE")
      }
      assert.strictEqual(yield* countOf(blue, "too much"), 0)
      yield* receive(blue, { transaction_id: "empty" })
      assert.strictEqual(yield* countOf(blue, "empty"), 1)
    })
  )

  it.live("a server accepts a part of a flood of transactions, and the others must be sent again later", () =>
    Effect.gen(function* () {
      const { blue } = yield* scene
      const ids = Array.from({ length: 100 }, (_, index) => `flood ${index}`)
      const results = yield* Effect.forEach(ids, (transaction_id) => Effect.result(receive(blue, { transaction_id })), {
        concurrency: "unbounded"
      })
      const refused = results.flatMap((result) => (Result.isFailure(result) ? [result.failure._tag] : []))
      assert.isAbove(refused.length, 0)
      assert.isBelow(refused.length, 100)
      assert.deepStrictEqual([...new Set(refused)], ["M_LIMIT_EXCEEDED"])
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(receive(blue, { transaction_id: "later" }))))
    })
  )

  it.live("events that wait for others are placed while many other servers do not give what precedes theirs", () =>
    Effect.gen(function* () {
      const others: Record<string, number> = {}
      const servers: Array<HostileServer> = []
      for (const name of [...Array.from({ length: 9 }, (_, number) => `silent${number}.test`), "honest.test"]) {
        const server = new HostileServer(name, "today")
        others[name] = yield* freePort
        yield* server.listen(others[name])
        servers.push(server)
      }
      const [red] = (yield* homeServers(["red.test"], { others })) as [TestServer]
      const at = { serverName: red.serverName, federationPort: red.settings.port }
      const alice = yield* red.person("alice")
      const later: Array<() => void> = []
      for (const server of servers) {
        const { room_id } = yield* red.run(
          Rooms.use((rooms) => rooms.create(alice, { room_version: "11", visibility: "public" }))
        )
        const sender = `@someone:${server.serverName}`
        const room = yield* server.join(at, room_id, sender)
        const missing = server.event(room, { sender, content: message("missing") })
        const last = server.event(room, { sender, content: message(server.serverName) }, { prevEvents: [missing] })
        server.respond = () => ({ status: 500, body: { errcode: "M_UNKNOWN", error: "Not now" } })
        yield* server.tell(at, last)
        const answer: Responder = ({ path }) =>
          path.startsWith("/v1/get_missing_events/")
            ? { status: 200, body: { events: [server.toPdu(missing)] } }
            : notFound
        later.push(() => {
          server.respond = server.serverName === "honest.test" ? answer : () => "never"
        })
      }
      yield* red.stop
      for (const change of later) change()
      yield* red.start
      // The other servers have twenty seconds for each question.
      yield* Effect.timeout(red.sees(alice, isMessage("honest.test")), "15 seconds")
    })
  )

  it.live(
    "missing transactions are requested while many other servers do not answer such requests",
    () =>
      Effect.gen(function* () {
        const others: Record<string, number> = {}
        const silent: Array<HostileServer> = []
        for (let number = 0; number < 12; number++) {
          const server = new HostileServer(`silent${number}.test`)
          server.respond = () => "never"
          others[server.serverName] = yield* freePort
          yield* server.listen(others[server.serverName]!)
          silent.push(server)
        }
        const [red] = (yield* homeServers(["red.test"], { others })) as [TestServer]
        const at = { serverName: red.serverName, federationPort: red.settings.port }
        for (const server of silent) {
          const about = { origin: server.serverName, destination: red.serverName, ts: 1, pdus: [], edus: [] }
          yield* server.ask(at, "PUT", "/send/second", { ...about, prev_ids: ["first"] })
          yield* Effect.repeat(Effect.sleep("20 millis"), {
            until: () => server.asked.some((path) => path.startsWith("/pull"))
          })
        }
      }),
    20_000
  )

  it.live("a server can pull the PDUs that were sent to it, and no others", () =>
    Effect.gen(function* () {
      const { red, transaction } = yield* sceneWithTransaction
      const pull = (origin: string, after: ReadonlyArray<string>) =>
        red.run(Effect.flatMap(Federation, (federation) => federation.pull(origin as never, after)))
      const all = yield* pull("blue.test", [])
      assert.deepStrictEqual(all.at(-1)?.transaction_id, transaction.transaction_id)
      assert.deepStrictEqual(all.at(-1)?.pdus, transaction.pdus)
      assert.deepStrictEqual(yield* pull("blue.test", [transaction.transaction_id]), [])
      assert.deepStrictEqual(yield* pull("green.test", []), [])
    })
  )
})
