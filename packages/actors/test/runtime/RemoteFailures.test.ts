/** A failure of the database at another node is judged as one at this node: whether it passes, and what clients are answered. */
import { assert, describe, it } from "@effect/vitest"
import { CommitFailed, StaleWriter } from "@greenroom/store/RoomCommit"
import { Cause, Effect, Exit } from "effect"
import { Rpc, RpcSerialization } from "effect/rpc"
import {
  ConnectionError,
  DeadlockError,
  LockTimeoutError,
  SqlError,
  SqlSyntaxError,
  StatementTimeoutError,
  UniqueViolation,
  UnknownError
} from "effect/sql/SqlError"
import { mayPass } from "../../src/runtime/ItemFailure.ts"
import { makeAnswering, makeCodecs, outcomes } from "../../src/runtime/internal/ActorMessages.ts"
import { forOtherNode } from "../../src/runtime/internal/RemoteActors.ts"
import { databaseRefusal, isOfUnavailableNode, isOutOfResources } from "../../src/runtime/NodeUnavailable.ts"

const Write = Rpc.make("Write") as unknown as Rpc.AnyWithProps

/** The cause of a failure of an actor, as the node that has asked for it gets it. */
const atOtherNode = Effect.fnUntraced(function* (defect: unknown) {
  const { codecFor } = yield* RpcSerialization.RpcSerialization
  const codecs = makeCodecs(codecFor)
  const receiver = {
    rpcs: new Map([["Write", Write]]),
    holds: () => true,
    receive: () => Effect.failCause(forOtherNode(Cause.die(defect)))
  }
  const clock = yield* Effect.clockWith(Effect.succeed)
  const answerTo = makeAnswering(new Map([["Store", receiver]]) as never, codecs, clock)
  const [, outcome, value] = yield* answerTo([1, "Store", "default", 1, "one", "Write", null])
  assert.strictEqual(outcome, outcomes.exit)
  const exit = yield* codecs(Write).decodeExit(JSON.parse(JSON.stringify(value)))
  return Exit.isFailure(exit) ? exit.cause : assert.fail("The actor has failed")
})

/** An error of PostgreSQL, which has its SQLSTATE as `code`. */
const failed = (code: string) => ({
  cause: Object.assign(new Error("refused"), { code }),
  message: "PgConnection: Query failed",
  operation: "query"
})

const verdictOf = (cause: Cause.Cause<unknown>) => ({
  passes: mayPass(cause),
  isOwn: mayPass(cause, true),
  unavailable: isOfUnavailableNode(cause),
  full: isOutOfResources(cause),
  refusal: databaseRefusal(cause)
})

const passing = { passes: true, isOwn: true, unavailable: false, full: false, refusal: undefined as string | undefined }
const away = { ...passing, unavailable: true }
const full = { ...passing, full: true, refusal: "nothing can be stored: refused" }
const cancelled = { ...passing, refusal: "the database did not finish a statement: refused" }
const unclear = { ...passing, isOwn: false }
const atFault = { ...unclear, passes: false }

const cases: ReadonlyArray<readonly [what: string, reason: SqlError["reason"], verdict: typeof passing]> = [
  ["bytes that are no text (22021)", new UnknownError(failed("22021")), atFault],
  ["a constraint (23514)", new UnknownError(failed("23514")), atFault],
  ["a unique key (23505)", new UniqueViolation({ ...failed("23505"), constraint: "key" }), atFault],
  ["a limit of PostgreSQL (54000)", new UnknownError(failed("54000")), atFault],
  ["an internal error (XX000)", new UnknownError(failed("XX000")), unclear],
  ["a table that is being moved (42P01)", new SqlSyntaxError(failed("42P01")), passing],
  ["a file that cannot be read (58030)", new UnknownError(failed("58030")), passing],
  ["a deadlock (40P01)", new DeadlockError(failed("40P01")), cancelled],
  ["a cancelled statement (57014)", new StatementTimeoutError(failed("57014")), { ...cancelled, isOwn: false }],
  ["a wait for a lock (55P03)", new LockTimeoutError(failed("55P03")), cancelled],
  ["a database that stops (57P01)", new UnknownError(failed("57P01")), away],
  ["no free connection (53300)", new UnknownError(failed("53300")), away],
  ["no connection", new ConnectionError({ ...failed("ECONNREFUSED"), operation: "connect" }), away],
  ["a full disk (53100)", new UnknownError(failed("53100")), full],
  ["a read-only database (25006)", new UnknownError(failed("25006")), full]
]

describe("failures of the database at another node", () => {
  for (const [what, reason, verdict] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const statement = new SqlError({ reason })
        const commit = new CommitFailed({ roomId: "!a:b", fence: 1, untouched: false, cause: Cause.fail(statement) })
        for (const defect of [statement, commit]) {
          assert.deepStrictEqual(verdictOf(Cause.die(defect)), verdict, "at this node")
          assert.deepStrictEqual(verdictOf(Cause.fail(defect)), verdict, "as an error")
          assert.deepStrictEqual(verdictOf(yield* atOtherNode(defect)), verdict, "at another node")
        }
      }).pipe(Effect.provide(RpcSerialization.layerNdjson))
    )
  }

  it.effect("a commit that was not tried, since one before it had failed", () =>
    Effect.sync(() => {
      const commit = new CommitFailed({ roomId: "!a:b", fence: 1, untouched: true, cause: "an earlier commit failed" })
      assert.deepStrictEqual(verdictOf(Cause.die(commit)), passing)
      assert.deepStrictEqual(verdictOf(Cause.fail(commit)), passing)
    })
  )

  it.effect("a room that other nodes have opened again and again", () =>
    Effect.gen(function* () {
      const stale = new StaleWriter({ roomId: "!a:b", fence: 1 })
      assert.deepStrictEqual(verdictOf(Cause.die(stale)), away, "at this node")
      assert.deepStrictEqual(verdictOf(yield* atOtherNode(stale)), away, "at another node")
    }).pipe(Effect.provide(RpcSerialization.layerNdjson))
  )
})
